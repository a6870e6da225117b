package paddle.edge.runner;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * LiteRunner on a host's JVM with the real x86 engine. tests/test_android.py builds the native
 * library, makes the bundle, and names them: edge.bundle, edge.photos (PPM), edge.out (a folder for
 * Runs, which it then compares with those of lite_run).
 */
class LiteRunnerTest {
  private static final int SIDE = 16;
  private static final int CLASSES = 10;

  private static File bundle;
  private static File photos;

  @BeforeAll
  static void find() {
    assumeTrue(System.getProperty("edge.bundle") != null, "run by tests/test_android.py");
    bundle = new File(System.getProperty("edge.bundle"));
    photos = new File(System.getProperty("edge.photos"));
  }

  private static LiteRunner open() throws LiteException {
    return LiteRunner.open(bundle, 1, PowerMode.NO_BIND);
  }

  private static ByteBuffer floats(float... values) {
    ByteBuffer buffer =
        ByteBuffer.allocateDirect(4 * values.length).order(ByteOrder.nativeOrder());
    buffer.asFloatBuffer().put(values);
    return buffer;
  }

  private static ByteBuffer random(int seed) {
    float[] values = new float[3 * SIDE * SIDE];
    Random random = new Random(seed);
    for (int i = 0; i < values.length; i++) {
      values[i] = random.nextFloat();
    }
    return floats(values);
  }

  private static final long[] SHAPE = {1, 3, SIDE, SIDE};

  /** A PPM file's picture as RGBA, with `gap` bytes before the first row and after each. */
  private static void setImage(LiteRunner runner, File file, int gap)
      throws LiteException, IOException {
    byte[] bytes = Files.readAllBytes(file.toPath());
    String[] header = new String(bytes, StandardCharsets.ISO_8859_1).split("\\s", 5);
    final int width = Integer.parseInt(header[1]);
    final int height = Integer.parseInt(header[2]);
    final int stride = 4 * width + gap;
    int from = bytes.length - 3 * width * height;
    ByteBuffer pixels = ByteBuffer.allocateDirect(gap + stride * height);
    for (int y = 0; y < height; y++) {
      pixels.position(gap + y * stride);
      for (int x = 0; x < width; x++, from += 3) {
        pixels.put(bytes, from, 3).put((byte) (x * y));
      }
    }
    pixels.position(gap);
    runner.setImage(pixels, width, height, stride);
  }

  private static List<File> pictures() {
    File[] found = photos.listFiles();
    assertNotNull(found);
    Arrays.sort(found);
    return Arrays.asList(found);
  }

  private static String refused(int status, LiteCall call) {
    LiteException error = assertThrows(LiteException.class, call::run);
    assertEquals(status, error.status(), error.getMessage());
    assertFalse(error.getMessage().contains("\n"));
    return error.getMessage();
  }

  private interface LiteCall {
    void run() throws LiteException;
  }

  @Test
  void describesTheBundle() throws LiteException {
    assertTrue(LiteRunner.library().contains("\"lite_run\""));
    try (LiteRunner runner = open()) {
      assertEquals("float32[?, 3, 16, 16]", runner.inputs().get(0).toString());
      assertEquals("x", runner.inputs().get(0).name());
      assertEquals(1, runner.outputs().size());
      assertEquals(CLASSES, runner.outputs().get(0).shape()[1]);
      assertTrue(runner.info().contains("\"precision\":\"fp32\""), runner.info());
      assertEquals("class 3 of é😺", runner.label(3));
      assertNull(runner.label(CLASSES));
      assertNull(runner.label(-1));
    }
  }

  @Test
  void answersTheBundlesSamplesAndPictures() throws LiteException, IOException {
    File out = new File(System.getProperty("edge.out"));
    try (LiteRunner runner = open()) {
      AtomicInteger told = new AtomicInteger();
      Check check =
          runner.selfCheck(
              (done, total) -> {
                assertEquals(done, told.incrementAndGet());
                return true;
              });
      assertTrue(check.passed(), check.failures());
      assertEquals("", check.failures());
      assertTrue(check.report().contains("\"passed\":true"));
      assertEquals(4, told.get());
      assertTrue(runner.summary().contains("\"latency\""));
      runner.saveRun(new File(out, "samples.run"), false);
      int gap = 0;
      for (File file : pictures()) {
        setImage(runner, file, gap);
        runner.record(file.getName().replace(".ppm", ""), -1, 0, 2);
        gap += 4;
      }
      runner.saveRun(new File(out, "pictures.run"), false);
      String taken = refused(LiteException.USAGE, () -> runner.saveRun(out, true));
      assertTrue(taken.contains("nothing was recorded"), taken);
    }
  }

  @Test
  void ranksClasses() throws LiteException {
    try (LiteRunner runner = open()) {
      assertEquals(0, runner.lastRunMs());
      runner.setInput(0, "float32", SHAPE, random(1));
      runner.run();
      assertTrue(runner.lastRunMs() > 0);
      Tensor answer = runner.output(0);
      assertArrayEquals(new long[] {1, CLASSES}, answer.shape());
      assertTrue(answer.elements().isReadOnly());
      List<Prediction> best = runner.top(0, 3);
      assertEquals(3, best.size());
      float[] scores = answer.floats();
      for (float score : scores) {
        assertTrue(score <= best.get(0).score());
      }
      assertEquals(scores[best.get(0).classNumber()], best.get(0).score());
      assertEquals(runner.label(best.get(1).classNumber()), best.get(1).label());
      assertEquals(best.get(2).score(), best.get(2).probability(), 1e-6); // sums to 1 already
      assertEquals(CLASSES, runner.top(0, 99).size());
      assertEquals(0, runner.top(0, 0).size());
      refused(LiteException.USAGE, () -> runner.top(0, -1));
      refused(LiteException.USAGE, () -> runner.top(1, 3));
    }
  }

  @Test
  void ordersScoresAsLiteRunDoes() {
    float[] scores = {-0f, Float.NaN, 2f, 0f, 2f, Float.NEGATIVE_INFINITY};
    assertEquals(Arrays.asList(2, 4, 0, 3, 1, 5), Prediction.best(scores, 6));
    double[] even = Prediction.probabilities(new float[] {1000f, 1000f});
    assertArrayEquals(new double[] {.5, .5}, even);
    assertArrayEquals(new double[] {.25, .75}, Prediction.probabilities(new float[] {.25f, .75f}));
    assertTrue(Double.isNaN(Prediction.probabilities(new float[] {Float.NaN, 1f})[1]));
  }

  @Test
  void refusesWhatDoesNotFit() throws LiteException {
    try (LiteRunner runner = open()) {
      refused(LiteException.USAGE, runner::run);
      refused(LiteException.USAGE, () -> runner.output(0));
      refused(LiteException.USAGE, () -> runner.setInput(0, "float32", SHAPE, null));
      refused(LiteException.USAGE, () -> runner.setInput(0, "float32", null, random(1)));
      refused(LiteException.USAGE, () -> runner.setInput(0, null, SHAPE, random(1)));
      refused(LiteException.USAGE, () -> runner.setInput(7, "float32", SHAPE, random(1)));
      refused(LiteException.USAGE, () -> runner.setInput(-1, "float32", SHAPE, random(1)));
      refused(LiteException.USAGE, () -> runner.setInput(0, "float64", SHAPE, random(1)));
      refused(LiteException.USAGE, () -> runner.setInput(0, "float32", SHAPE, floats(1, 2)));
      refused(LiteException.USAGE, () -> runner.setInput(0, "float32", new long[0], random(1)));
      String heap =
          refused(
              LiteException.USAGE,
              () -> runner.setInput(0, "float32", SHAPE, ByteBuffer.allocate(4 * 3 * SIDE * SIDE)));
      assertEquals("a direct ByteBuffer is needed", heap);
      ByteBuffer pixels = ByteBuffer.allocateDirect(4 * 20 * 20);
      refused(LiteException.USAGE, () -> runner.setImage(null, 20, 20, 80));
      refused(LiteException.USAGE, () -> runner.setImage(ByteBuffer.allocate(1600), 20, 20, 80));
      refused(LiteException.USAGE, () -> runner.setImage(pixels, 20, 21, 80));
      refused(LiteException.USAGE, () -> runner.setImage(pixels, 20, 20, 81));
      refused(LiteException.USAGE, () -> runner.setImage(pixels, 20, 20, 79));
      refused(LiteException.USAGE, () -> runner.setImage(pixels, 0, 20, 80));
      refused(LiteException.USAGE, () -> runner.setImage(pixels, 20, -1, 80));
      refused(LiteException.USAGE, () -> runner.setImage(pixels, 20, 20, Integer.MIN_VALUE));
      refused(
          LiteException.USAGE,
          () -> runner.setImage(pixels, Integer.MAX_VALUE, Integer.MAX_VALUE, Integer.MAX_VALUE));
      refused(LiteException.USAGE, () -> runner.setFile(0, null));
      refused(LiteException.USAGE, () -> runner.setFile(0, new File("a\0b")));
      refused(LiteException.FAULT, () -> runner.setFile(0, new File("there is none.npy")));
      refused(LiteException.USAGE, () -> runner.record(null, -1, 0, 1));
      refused(LiteException.USAGE, () -> runner.record("a", -1, 0, 0));
      refused(LiteException.USAGE, runner::check);
      refused(LiteException.USAGE, runner::summary);
      refused(LiteException.USAGE, () -> runner.saveRun(null, false));
      // And after all that it works.
      runner.setImage(pixels, 20, 20, 80);
      runner.run();
      assertNotNull(runner.output(0));
    }
    refused(LiteException.USAGE, () -> LiteRunner.open(null, 1, PowerMode.HIGH));
    refused(LiteException.USAGE, () -> LiteRunner.open(bundle, 1, null));
    refused(LiteException.USAGE, () -> LiteRunner.open(bundle, 0, PowerMode.HIGH));
    String none =
        refused(
            LiteException.FAULT, () -> LiteRunner.open(new File("näh😺"), 1, PowerMode.HIGH));
    assertTrue(none.contains("näh😺"), none);
  }

  @Test
  void damagedBundlesAreRefusedWithTheCoresWords(@TempDir Path folder) throws IOException {
    for (String name : new String[] {"bundle.json", "model.x86.nb"}) {
      Files.copy(new File(bundle, name).toPath(), folder.resolve(name));
    }
    byte[] model = Files.readAllBytes(folder.resolve("model.x86.nb"));
    model[model.length - 1] ^= 1;
    Files.write(folder.resolve("model.x86.nb"), model);
    String words =
        refused(
            LiteException.FAULT, () -> LiteRunner.open(folder.toFile(), 1, PowerMode.NO_BIND));
    assertTrue(words.contains("its checksum is not the bundle's"), words);
  }

  @Test
  void answersThatDifferFailTheCheck(@TempDir Path folder) throws IOException, LiteException {
    copy(bundle.toPath(), folder);
    Path answers = folder.resolve("reference/output_0.npy");
    byte[] bytes = Files.readAllBytes(answers);
    for (int at = bytes.length - 4 * CLASSES; at < bytes.length; at += 4) {
      ByteBuffer.wrap(bytes, at, 4).order(ByteOrder.LITTLE_ENDIAN).putFloat(1f / CLASSES);
    }
    Files.write(answers, bytes);
    try (LiteRunner runner = LiteRunner.open(folder.toFile(), 1, PowerMode.NO_BIND)) {
      Check check = runner.selfCheck(null);
      assertFalse(check.passed());
      assertTrue(check.failures().contains("max |dp|"), check.failures());
      assertTrue(check.report().contains("\"passed\":false"));
    }
  }

  static void copy(Path from, Path to) throws IOException {
    List<Path> all = new ArrayList<>();
    try (java.util.stream.Stream<Path> paths = Files.walk(from)) {
      paths.forEach(all::add);
    }
    for (Path path : all.subList(1, all.size())) {
      Files.copy(path, to.resolve(from.relativize(path)));
    }
  }

  @Test
  void nothingWorksAfterClose() throws LiteException {
    LiteRunner runner = open();
    runner.close();
    runner.close();
    List<LiteCall> calls = new ArrayList<>();
    calls.add(runner::info);
    calls.add(runner::inputs);
    calls.add(runner::outputs);
    calls.add(runner::run);
    calls.add(runner::forget);
    calls.add(runner::check);
    calls.add(runner::summary);
    calls.add(() -> runner.output(0));
    calls.add(() -> runner.label(0));
    calls.add(() -> runner.top(0, 1));
    calls.add(() -> runner.setInput(0, "float32", SHAPE, random(1)));
    calls.add(() -> runner.setImage(ByteBuffer.allocateDirect(4), 1, 1, 4));
    calls.add(() -> runner.setFile(0, new File("x")));
    calls.add(() -> runner.record("a", -1, 0, 1));
    calls.add(() -> runner.recordSamples(null, 0, 1, null));
    calls.add(() -> runner.selfCheck(null));
    calls.add(() -> runner.saveRun(new File("x"), false));
    for (LiteCall call : calls) {
      assertEquals("the runner is closed", refused(LiteException.USAGE, call));
    }
  }

  @Test
  void listenersMayStopAndThrowButNotCallBack() throws LiteException {
    try (LiteRunner runner = open()) {
      runner.recordSamples(null, 0, 1, (done, total) -> done < 2);
      assertTrue(runner.summary().contains("\"count\":2"), runner.summary());
      runner.forget();
      IllegalArgumentException thrown = new IllegalArgumentException("mine");
      assertSame(
          thrown,
          assertThrows(
              IllegalArgumentException.class,
              () ->
                  runner.recordSamples(
                      null,
                      0,
                      1,
                      (done, total) -> {
                        throw thrown;
                      })));
      runner.forget();
      runner.recordSamples(
          null,
          0,
          1,
          (done, total) -> {
            refused(LiteException.USAGE, runner::run);
            refused(LiteException.USAGE, () -> runner.output(0));
            assertThrows(IllegalStateException.class, runner::close);
            return true;
          });
      assertTrue(runner.check().passed());
    }
  }

  @Test
  void runsOfOneRunnerOnManyThreadsDoNotMix() throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(4);
    try (LiteRunner shared = open()) {
      List<float[]> expected = new ArrayList<>();
      for (int seed = 0; seed < 4; seed++) {
        shared.setInput(0, "float32", SHAPE, random(seed));
        shared.run();
        expected.add(shared.output(0).floats());
      }
      List<Future<?>> work = new ArrayList<>();
      for (int thread = 0; thread < 4; thread++) {
        int seed = thread;
        work.add(
            threads.submit(
                () -> {
                  try (LiteRunner own = open()) {
                    for (int i = 0; i < 50; i++) {
                      own.setInput(0, "float32", SHAPE, random(seed));
                      own.run();
                      assertArrayEquals(expected.get(seed), own.output(0).floats());
                      synchronized (shared) { // three calls that belong together
                        shared.setInput(0, "float32", SHAPE, random(seed));
                        shared.run();
                        assertArrayEquals(expected.get(seed), shared.output(0).floats());
                      }
                    }
                  }
                  return null;
                }));
      }
      for (Future<?> each : work) {
        each.get(60, TimeUnit.SECONDS);
      }
    } finally {
      threads.shutdownNow();
    }
  }

  @Test
  void closingWhileOthersRunIsSafe() throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(2);
    try {
      for (int round = 0; round < 20; round++) {
        LiteRunner runner = open();
        CountDownLatch started = new CountDownLatch(2);
        List<Future<String>> work = new ArrayList<>();
        for (int thread = 0; thread < 2; thread++) {
          work.add(
              threads.submit(
                  () -> {
                    started.countDown();
                    while (true) {
                      try {
                        runner.setInput(0, "float32", SHAPE, random(1));
                        runner.recordSamples(null, 0, 1, null);
                        runner.forget();
                      } catch (LiteException error) {
                        if (error.getMessage().equals("the runner is closed")) {
                          return error.getMessage();
                        }
                        assertTrue(error.getMessage().contains("recorded already"));
                      }
                    }
                  }));
        }
        assertTrue(started.await(10, TimeUnit.SECONDS));
        Thread.sleep(round);
        runner.close();
        for (Future<String> each : work) {
          assertEquals("the runner is closed", each.get(60, TimeUnit.SECONDS));
        }
      }
    } finally {
      threads.shutdownNow();
    }
  }

  @Test
  void thousandRunnersLeaveNoMemoryBehind() throws LiteException, IOException {
    ByteBuffer input = random(1);
    long before = 0;
    for (int i = 0; i < 1000; i++) {
      try (LiteRunner runner = open()) {
        runner.setInput(0, "float32", SHAPE, input);
        runner.run();
        runner.output(0);
      }
      refused(LiteException.FAULT, () -> LiteRunner.open(photos, 1, PowerMode.NO_BIND));
      if (i == 199) {
        before = residentBytes();
      }
    }
    long grown = residentBytes() - before;
    System.out.println("1000 runners: grown by " + grown / 1024 + " KB after the 200th");
    assertTrue(grown < 4 << 20, "grown by " + grown + " bytes");
  }

  private static long residentBytes() throws IOException {
    System.gc();
    for (String line :
        Files.readAllLines(Path.of("/proc/self/status"), StandardCharsets.UTF_8)) {
      if (line.startsWith("VmRSS:")) {
        return 1024 * Long.parseLong(line.replaceAll("\\D", ""));
      }
    }
    throw new IOException("no VmRSS");
  }
}
