package paddle.edge.demo.work;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.stream.Stream;
import java.util.zip.ZipFile;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import paddle.edge.demo.work.Screen.Task;
import paddle.edge.runner.PowerMode;

/**
 * The app without its screen, on the real engine; see LiteRunnerTest. What it shares is left in
 * edge.out, for paddle-edge compare.
 */
class WorkbenchTest {
  private static Map<String, byte[]> files;

  @TempDir Path folder;
  private final Queue worker = new Queue();
  private final List<Screen> seen = new ArrayList<>();
  private final Workbench.Listener listener = seen::add;
  private Workbench bench;

  /** An executor whose work the test does when it wants to. */
  private static final class Queue implements Executor {
    private final Deque<Runnable> work = new ArrayDeque<>();
    private boolean full;

    @Override
    public void execute(Runnable task) {
      if (full) {
        throw new OutOfMemoryError("unable to create native thread");
      }
      work.add(task);
    }

    void finish() {
      while (!work.isEmpty()) {
        work.remove().run();
      }
    }
  }

  @BeforeAll
  static void readBundle() throws IOException {
    assumeTrue(System.getProperty("edge.bundle") != null, "run by tests/test_android.py");
    Path bundle = new File(System.getProperty("edge.bundle")).toPath();
    files = new LinkedHashMap<>();
    try (Stream<Path> paths = Files.walk(bundle)) {
      for (Path path : (Iterable<Path>) paths.filter(Files::isRegularFile)::iterator) {
        files.put(bundle.relativize(path).toString(), Files.readAllBytes(path));
      }
    }
  }

  @BeforeEach
  void start() {
    bench = bench(null);
    bench.attach(listener);
    fill(bench);
  }

  @AfterEach
  void stop() {
    bench.close();
    worker.finish();
  }

  private Workbench bench(String saved) {
    return bench(saved, Runnable::run);
  }

  private Workbench bench(String saved, Executor drawing) {
    Shelf shelf = new Shelf(folder.resolve("shelf").toFile());
    return new Workbench(shelf, folder.resolve("runs").toFile(), worker, drawing, saved);
  }

  private void fill(Workbench filled) {
    Map<String, byte[]> assets = new LinkedHashMap<>();
    files.forEach((name, bytes) -> assets.put("bundles/tiny/" + name, bytes));
    assertTrue(filled.fill(new BundleZipTest.Tree(assets), "bundles", "1"));
    worker.finish();
  }

  private void share(String zip, String name) throws IOException {
    Files.copy(new File(zip).toPath(), new File(System.getProperty("edge.out"), name).toPath());
  }

  private Screen last() {
    return seen.get(seen.size() - 1);
  }

  private static Picture grey() {
    ByteBuffer pixels = Picture.room(20, 30);
    for (int i = 0; i < pixels.capacity(); i++) {
      pixels.put(i, (byte) (i * i));
    }
    return new Picture(pixels, 20, 30, 80);
  }

  @Test
  void picturesAreClassified() {
    assertEquals(1, last().bundles.size());
    assertEquals(last().bundles.get(0), last().bundle);
    assertTrue(bench.classify("photo.jpg", WorkbenchTest::grey));
    assertEquals(Task.CLASSIFYING, last().task);
    assertFalse(bench.classify("photo.jpg", WorkbenchTest::grey), "one task at a time");
    assertFalse(bench.check());
    assertFalse(bench.choose("other", 1, PowerMode.HIGH));
    worker.finish();
    Screen screen = last();
    assertEquals(Task.NONE, screen.task);
    assertNull(screen.problem);
    assertEquals(Workbench.TOP, screen.rows.size());
    assertTrue(screen.rows.get(0).label.startsWith("class "), screen.rows.get(0).label);
    assertTrue(screen.rows.get(0).probability >= screen.rows.get(1).probability);
    assertTrue(screen.answerMs > 0);
    assertEquals("photo.jpg", screen.picture);
    bench.close(); // the system wants the memory
    assertTrue(bench.classify("photo.jpg", WorkbenchTest::grey));
    worker.finish();
    assertEquals(screen.rows.get(0).label, last().rows.get(0).label);
  }

  @Test
  void whatArrivesDuringWorkIsDoneAfterIt() {
    bench.whenIdle(() -> assertTrue(bench.check()));
    assertEquals(Task.CHECKING, last().task);
    bench.whenIdle(() -> fail("replaced by the next"));
    bench.whenIdle(() -> assertTrue(bench.classify("late.jpg", WorkbenchTest::grey)));
    assertEquals(Task.CHECKING, last().task);
    worker.finish();
    assertTrue(last().passed);
    assertEquals("late.jpg", last().picture);
    assertFalse(last().rows.isEmpty());

    // The process ended behind a picker: its result comes while the new one unpacks the bundles.
    Workbench next = bench(bench.screen().save());
    assertTrue(next.fill(new BundleZipTest.Tree(new LinkedHashMap<>()), "bundles", "1"));
    next.whenIdle(() -> assertTrue(next.classify("picked.jpg", WorkbenchTest::grey)));
    worker.finish();
    assertEquals("picked.jpg", next.screen().picture);
    assertFalse(next.screen().rows.isEmpty());
    next.close();
  }

  @Test
  void theSelfCheckSaysWhatLiteRunPrints() throws IOException {
    assertTrue(bench.check());
    worker.finish();
    Screen screen = last();
    assertNull(screen.problem);
    assertTrue(screen.passed);
    assertEquals(4, screen.total);
    assertEquals(4, screen.done);
    String printed = System.getProperty("edge.verdict"); // by lite_run for the same bundle
    assertEquals(
        printed.substring(0, printed.lastIndexOf("\npassed: ")),
        screen.verdict.substring(0, screen.verdict.lastIndexOf("\npassed: ")));
    String end = "\npassed: \\S+ (\\(fp32\\) on .*, Paddle Lite .*, 4 samples, p50 )\\S+ ms\n?";
    assertEquals(
        printed.replaceFirst("(?s).*" + end, "$1"),
        screen.verdict.replaceFirst("(?s).*" + end, "$1"));
    try (ZipFile zip = new ZipFile(screen.run)) {
      String name = new File(screen.run).getName().replace(".zip", "");
      assertNotNull(zip.getEntry(name + "/run.json"));
      assertNotNull(zip.getEntry(name + "/output_0.npy"));
      assertTrue(folder.resolve("runs").resolve(name).resolve("run.json").toFile().exists());
    }
    share(screen.run, "check.zip");
  }

  @Test
  void cancelledSelfChecksJudgeWhatIsDone() {
    assertTrue(bench.check());
    bench.cancel();
    worker.finish();
    assertEquals(1, last().done);
    assertTrue(last().verdict.contains(", 1 samples, "), last().verdict);
    assertTrue(bench.check());
    worker.finish();
    assertEquals(4, last().done);
  }

  @Test
  void benchmarksAreRuns() throws IOException {
    assertTrue(bench.choose(last().bundle, 2, PowerMode.FULL));
    assertTrue(bench.measure(2, 10));
    worker.finish();
    Screen screen = last();
    assertNull(screen.problem);
    assertEquals(10, screen.measured);
    assertTrue(0 < screen.p50Ms && screen.p50Ms <= screen.p90Ms);
    share(screen.run, "benchmark.zip");
    Path run = new File(screen.run.replace(".zip", "")).toPath().resolve("run.json");
    String json = new String(Files.readAllBytes(run), "UTF-8");
    assertTrue(json.replaceAll("\\s", "").contains("\"threads\":2"), json);
    for (int i = 0; i < 9; i++) {
      new File(folder.toFile(), "runs/old" + i).mkdirs();
      assertTrue(new File(folder.toFile(), "runs/old" + i).setLastModified(1000L * i));
    }
    assertTrue(bench.measure(0, 1));
    worker.finish();
    File[] kept = folder.resolve("runs").toFile().listFiles();
    assertTrue(kept.length <= 10, "old runs are removed");
    assertFalse(new File(folder.toFile(), "runs/old0").exists());
  }

  @Test
  void arrivingZipsAreChosenOrRefused() throws IOException {
    byte[] zip = BundleZipTest.zip(files);
    assertTrue(bench.add(() -> new ByteArrayInputStream(zip)));
    worker.finish();
    assertNull(last().problem);
    assertTrue(bench.add(() -> new ByteArrayInputStream(new byte[99])));
    worker.finish();
    assertEquals(Refused.Reason.NOT_A_ZIP, last().refused);
    assertEquals(1, last().bundles.size());
    assertTrue(
        bench.add(
            () -> {
              throw new IOException("the cloud is gone");
            }));
    worker.finish();
    assertNull(last().refused);
    assertEquals("the cloud is gone", last().problem);
    assertTrue(bench.check());
    worker.finish();
    assertNull(last().problem, "the next task starts afresh");
    assertTrue(last().passed);
  }

  @Test
  void removedBundlesAreGoneForGood() throws IOException {
    final String packaged = last().bundle;
    Map<String, byte[]> renamed = new LinkedHashMap<>(files);
    String manifest = new String(files.get("bundle.json"), "UTF-8");
    renamed.put("bundle.json", manifest.replace("\"tiny\"", "\"other\"").getBytes("UTF-8"));
    byte[] zip = BundleZipTest.zip(renamed);
    assertTrue(bench.add(() -> new ByteArrayInputStream(zip)));
    worker.finish();
    assertNotEquals(packaged, last().bundle);
    assertTrue(bench.check());
    worker.finish();
    final String run = last().run;
    assertTrue(bench.remove());
    assertEquals(Task.REMOVING, last().task);
    worker.finish();
    assertNull(last().problem);
    assertEquals(packaged, last().bundle);
    assertEquals(1, last().bundles.size());
    assertNull(last().verdict, "it was of the other bundle");
    assertTrue(new File(run).isFile());
    String[] left = folder.resolve("shelf").toFile().list();
    assertEquals(2, left.length, "the other bundle and the stamp: " + String.join(" ", left));
    assertTrue(bench.check());
    worker.finish();
    assertTrue(last().passed);

    assertTrue(bench.remove());
    worker.finish();
    assertNull(last().bundle);
    fill(bench); // as the next start of the app does
    assertNull(last().bundle);
    assertTrue(bench.remove());
    worker.finish();
    assertEquals(Refused.Reason.NO_BUNDLE, last().refused);
  }

  @Test
  void zipsOfOtherToolsAreTakenAndTheirLinksAreFiles() throws IOException {
    assertTrue(bench.add(() -> new FileInputStream(System.getProperty("edge.zip"))));
    worker.finish();
    assertNull(last().problem);
    Path link = folder.resolve("shelf").resolve(last().bundle).resolve("link");
    assertFalse(Files.isSymbolicLink(link));
    assertEquals(11, Files.size(link));
    assertTrue(bench.check());
    worker.finish();
    assertTrue(last().passed);
  }

  @Test
  void whatGoesWrongIsShownAndTheAppGoesOn() throws IOException {
    assertTrue(
        bench.classify(
            "photo.jpg",
            () -> {
              throw new Refused(Refused.Reason.NO_PICTURE, "photo.jpg");
            }));
    worker.finish();
    assertEquals(Refused.Reason.NO_PICTURE, last().refused);
    assertTrue(last().rows.isEmpty());
    assertTrue(
        bench.classify(
            "photo.jpg",
            () -> {
              throw new OutOfMemoryError("200 megapixels");
            }));
    worker.finish();
    assertTrue(last().problem.contains("200 megapixels"));
    Path model = folder.resolve("shelf").resolve(last().bundle).resolve("model.x86.nb");
    Files.write(model, new byte[1]);
    assertTrue(bench.check());
    worker.finish();
    assertTrue(last().problem.contains("model.x86.nb"), last().problem);
    assertEquals(Task.NONE, last().task);
    assertTrue(bench.choose("gone", 1, PowerMode.HIGH));
    assertTrue(bench.check());
    worker.finish();
    assertEquals(Refused.Reason.NO_BUNDLE, last().refused);
  }

  @Test
  void errorsOfAnyKindAreShownAndTheAppGoesOn() {
    for (Error error :
        new Error[] {
          new LinkageError("another version"),
          new StackOverflowError("too deep"),
          new AssertionError("a mistake")
        }) {
      assertTrue(
          bench.classify(
              "photo.jpg",
              () -> {
                throw error;
              }));
      bench.whenIdle(() -> assertTrue(bench.classify("next.jpg", WorkbenchTest::grey)));
      worker.finish();
      assertEquals(Task.NONE, last().task);
      assertEquals("next.jpg", last().picture, "what waited is done");
      assertTrue(seen.stream().anyMatch(s -> String.valueOf(s.problem).contains(error.toString())));
    }
    worker.full = true; // no thread to be had
    assertTrue(bench.classify("photo.jpg", WorkbenchTest::grey));
    assertEquals(Task.NONE, last().task);
    assertTrue(last().problem.contains("unable to create"), last().problem);
    worker.full = false;
    assertTrue(bench.check());
    worker.finish();
    assertTrue(last().passed);
  }

  @Test
  void rotationsMissNothing() {
    assertTrue(bench.check());
    bench.detach(listener); // the old screen is destroyed
    int before = seen.size();
    worker.finish();
    assertEquals(before, seen.size(), "a destroyed screen is not called");
    List<Screen> turned = new ArrayList<>();
    Workbench.Listener next = turned::add;
    bench.attach(next);
    assertEquals(1, turned.size());
    assertTrue(turned.get(0).passed);
    bench.detach(listener); // late: it is not the listener any more
    assertTrue(bench.classify(null, WorkbenchTest::grey));
    worker.finish();
    assertFalse(turned.get(turned.size() - 1).rows.isEmpty());
  }

  @Test
  void screensThatAreGoneAreNotDrawn() {
    Queue drawing = new Queue();
    Workbench late = bench(null, drawing);
    List<Screen> drawn = new ArrayList<>();
    Workbench.Listener screen = drawn::add;
    late.attach(screen);
    late.complain("to be drawn later");
    late.detach(screen);
    drawing.finish();
    assertTrue(drawn.isEmpty());
    late.attach(screen);
    drawing.finish();
    assertEquals("to be drawn later", drawn.get(0).problem);
  }

  @Test
  void theEndOfTheProcessIsSurvived() throws IOException {
    assertTrue(bench.choose(last().bundle, 3, PowerMode.LOW));
    assertTrue(bench.classify("photo.jpg", WorkbenchTest::grey));
    worker.finish();
    assertTrue(bench.check());
    worker.finish();
    final Screen before = last();
    Workbench next = bench(bench.screen().save());
    fill(next);
    Screen after = next.screen();
    assertEquals(before.save(), after.save());
    assertEquals(3, after.threads);
    assertEquals(PowerMode.LOW, after.power);
    assertEquals(before.rows.get(4).label, after.rows.get(4).label);
    assertEquals(before.verdict, after.verdict);
    assertFalse(after.interrupted);

    assertTrue(bench.measure(0, 1));
    String during = bench.screen().save();
    worker.finish();
    next = bench(during);
    fill(next);
    assertTrue(next.screen().interrupted);
    assertEquals(Task.NONE, next.screen().task);
    assertTrue(next.check());
    worker.finish();
    assertFalse(next.screen().interrupted);
    next.close();

    for (String broken : new String[] {"", "{}", "[1]", during.replace("LOW", "WARP")}) {
      Screen fresh = bench(broken).screen();
      assertNull(fresh.bundle);
      assertEquals(1, fresh.threads);
    }
    next = bench(before.save());
    Files.move(folder.resolve("shelf"), folder.resolve("elsewhere"));
    try (InputStream gone = new ByteArrayInputStream(new byte[0])) {
      next.add(() -> gone);
      worker.finish();
    }
    next.fill(new BundleZipTest.Tree(new LinkedHashMap<>()), "bundles", "1");
    worker.finish();
    assertNull(next.screen().bundle, "its bundle is gone");
    assertNull(next.screen().verdict);
    assertNotEquals(before.save(), next.screen().save());
  }
}
