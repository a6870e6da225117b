package paddle.edge.runner;

import java.io.File;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * A bundle of paddle-edge, opened on this device's engine.
 *
 * <pre>{@code
 * try (LiteRunner runner = LiteRunner.open(folder, 4, PowerMode.NO_BIND)) {
 *   runner.setImage(rgba, width, height, 4 * width);
 *   runner.run();
 *   for (Prediction best : runner.top(0, 5)) {
 *     System.out.println(best.label() + " " + best.probability());
 *   }
 * }
 * }</pre>
 *
 * <p>All methods may be called from any thread: one call at a time goes on, the others wait, {@link
 * #close} among them. Calls after it, and calls from a {@link Progress}, end in a LiteException, as
 * does whatever else is wrong. Paddle Lite itself ends the process on a model that it cannot run
 * although all its checksums are right; see lite_run.h.
 *
 * <p>A call may take seconds: do not make it on the thread that draws.
 */
public final class LiteRunner implements AutoCloseable {
  private static final int INPUT = 0;
  private static final int OUTPUT = 1;
  private static final int RGBA = 4;

  private long handle;
  private boolean calling;
  private double lastRunMs;

  private LiteRunner(long handle) {
    this.handle = handle;
  }

  /** Told of samples as they are done. */
  public interface Progress {
    /**
     * Sample {@code done} of {@code total} is done. False ends it: what is done is kept.
     */
    boolean done(int done, int total);
  }

  /** Loads the native library once, and remembers why that failed. */
  private static final class Library {
    static final String PROBLEM = load();

    private static String load() {
      try {
        System.loadLibrary("lite_runner_jni");
        return null;
      } catch (UnsatisfiedLinkError error) {
        return "this app has no Paddle Lite for this device (" + error.getMessage() + ")";
      }
    }
  }

  /**
   * Opens a bundle: checks its files, then loads the model of this CPU.
   *
   * @param bundle folder of a bundle
   * @param threads CPU threads of the engine, 1 to 256
   * @throws LiteException where an argument is wrong, a file is missing or damaged, the model does
   *     not fit into memory, or is not for this CPU or this version of Paddle Lite
   */
  public static LiteRunner open(File bundle, int threads, PowerMode power) throws LiteException {
    load();
    if (bundle == null || power == null) {
      throw usage("the bundle or the power mode is null");
    }
    return new LiteRunner(nativeOpen(utf8(bundle.getPath()), threads, power.ordinal()));
  }

  /**
   * What the library is, without a bundle, as JSON: {@code {"lite_run": "0.1.0"}}.
   */
  public static String library() throws LiteException {
    load();
    return text(nativeInfo(0));
  }

  /** What was opened, as JSON: see lr_info in lite_run.h. */
  public synchronized String info() throws LiteException {
    return text(nativeInfo(handle()));
  }

  /** The inputs, in the model's order. */
  public synchronized List<TensorSpec> inputs() throws LiteException {
    return specs(INPUT);
  }

  /** The outputs, in the model's order. */
  public synchronized List<TensorSpec> outputs() throws LiteException {
    return specs(OUTPUT);
  }

  /**
   * Sets an input to the remaining bytes of a buffer, which are copied.
   *
   * @param dtype NumPy's name of the elements' type; has to be the input's
   * @param elements a direct buffer in native byte order, C order; its position does not move
   */
  public synchronized void setInput(int index, String dtype, long[] shape, ByteBuffer elements)
      throws LiteException {
    final long to = handle();
    if (dtype == null) {
      throw usage("the dtype is null");
    }
    nativeSetInput(
        to, index, utf8(dtype), shape, direct(elements), elements.position(), elements.remaining());
  }

  /**
   * Sets the input from pixels, preprocessed as the bundle says.
   *
   * @param rgba a direct buffer whose position is the first pixel: 8 bits a channel, rows from top
   *     to bottom; alpha is ignored. Its position does not move
   * @param stride bytes from one row to the next, at least 4 * width
   */
  public synchronized void setImage(ByteBuffer rgba, int width, int height, int stride)
      throws LiteException {
    final long to = handle();
    direct(rgba);
    long bytes = (height - 1L) * stride + (long) RGBA * width;
    if (width > 0 && height > 0 && rgba.remaining() < bytes) {
      throw usage(
          width + " x " + height + " pixels are " + bytes + " bytes, not " + rgba.remaining());
    }
    nativeSetImage(to, rgba, rgba.position(), width, height, stride, RGBA);
  }

  /** Sets an input from a .npy file, or where the library has decoders, from a JPEG or PNG. */
  public synchronized void setFile(int index, File file) throws LiteException {
    final long to = handle();
    if (file == null) {
      throw usage("the file is null");
    }
    nativeSetFile(to, index, utf8(file.getPath()));
  }

  /** Runs the model on the inputs that were set; each has to be set before each run. */
  public synchronized void run() throws LiteException {
    final long of = handle();
    long start = System.nanoTime();
    nativeRun(of);
    lastRunMs = (System.nanoTime() - start) / 1e6;
  }

  /**
   * How long the last {@link #run} took, without preprocessing and copies; 0 before the first.
   */
  public synchronized double lastRunMs() {
    return lastRunMs;
  }

  /** A copy of what the last run answered. */
  public synchronized Tensor output(int index) throws LiteException {
    Object[] parts = nativeOutput(handle(), index);
    return new Tensor(text((byte[]) parts[0]), (long[]) parts[1], (byte[]) parts[2]);
  }

  /** The name of a class; null where the bundle has no such label. */
  public synchronized String label(long classNumber) throws LiteException {
    byte[] name = nativeLabel(handle(), classNumber);
    return name == null ? null : text(name);
  }

  /**
   * The best classes of an output, best first.
   *
   * @param count how many at most
   * @throws LiteException where the output is not one row of float32 scores
   */
  public synchronized List<Prediction> top(int index, int count) throws LiteException {
    Tensor tensor = output(index);
    if (count < 0) {
      throw usage("there are no " + count + " classes");
    }
    if (!tensor.isRow()) {
      throw usage("output " + index + " is not one row of scores");
    }
    float[] scores = tensor.floats();
    double[] probabilities = Prediction.probabilities(scores);
    List<Prediction> best = new ArrayList<>();
    for (int place : Prediction.best(scores, count)) {
      best.add(new Prediction(place, label(place), scores[place], probabilities[place]));
    }
    return best;
  }

  /**
   * Runs the inputs that were set, timed, and keeps the answer in the record.
   *
   * @param sampleId unique in the record
   * @param classNumber the right class, or -1 where unknown
   * @param warmup runs before the measured ones
   * @param repeat measured runs, at least 1
   */
  public synchronized void record(String sampleId, long classNumber, int warmup, int repeat)
      throws LiteException {
    final long to = handle();
    if (sampleId == null) {
      throw usage("the sample's name is null");
    }
    nativeRecord(to, utf8(sampleId), classNumber, warmup, repeat);
  }

  /**
   * Adds the answers to samples on disk to the record.
   *
   * @param samples null for the bundle's own; else a .npy file, or a folder with samples.json
   * @param progress may be null; what it throws is thrown on, and what is done is kept
   */
  public synchronized void recordSamples(File samples, int warmup, int repeat, Progress progress)
      throws LiteException {
    final long to = handle();
    byte[] path = samples == null ? null : utf8(samples.getPath());
    calling = true;
    try {
      nativeRecordSamples(to, path, warmup, repeat, progress);
    } finally {
      calling = false;
    }
  }

  /** Empties the record. */
  public synchronized void forget() throws LiteException {
    nativeForget(handle());
  }

  /** Judges the record against what the server answered to the bundle's samples. */
  public synchronized Check check() throws LiteException {
    Object[] parts = nativeCheck(handle());
    return new Check(text((byte[]) parts[0]), parts.length > 1 ? text((byte[]) parts[1]) : null);
  }

  /** Runs the bundle's own samples and judges the answers; the record holds these afterwards. */
  public synchronized Check selfCheck(Progress progress) throws LiteException {
    forget();
    recordSamples(null, 1, 1, progress);
    return check();
  }

  /** The record without its arrays, as JSON: the run.json of a Run folder. */
  public synchronized String summary() throws LiteException {
    return text(nativeSummary(handle()));
  }

  /** Writes the record as a Run folder for paddle-edge compare, and empties the record. */
  public synchronized void saveRun(File folder, boolean force) throws LiteException {
    final long from = handle();
    if (folder == null) {
      throw usage("the folder is null");
    }
    nativeSaveRun(from, utf8(folder.getPath()), force);
  }

  /**
   * Releases everything; waits for a call that is under way. Closing twice does no harm.
   *
   * @throws IllegalStateException when called from a {@link Progress}
   */
  @Override
  public synchronized void close() {
    if (calling) {
      throw new IllegalStateException("a runner cannot be closed by its own progress listener");
    }
    nativeClose(handle);
    handle = 0;
  }

  private long handle() throws LiteException {
    if (calling) {
      throw usage("a progress listener cannot call its own runner");
    }
    if (handle == 0) {
      throw usage("the runner is closed");
    }
    return handle;
  }

  private List<TensorSpec> specs(int side) throws LiteException {
    final long of = handle();
    List<TensorSpec> all = new ArrayList<>();
    for (int i = 0; i < nativeCount(of, side); i++) {
      Object[] parts = nativeSpec(of, side, i);
      all.add(new TensorSpec(text((byte[]) parts[0]), text((byte[]) parts[1]), (long[]) parts[2]));
    }
    return Collections.unmodifiableList(all);
  }

  private static ByteBuffer direct(ByteBuffer buffer) throws LiteException {
    if (buffer == null || !((Buffer) buffer).isDirect()) {
      throw usage("a direct ByteBuffer is needed");
    }
    return buffer;
  }

  private static LiteException usage(String message) {
    return new LiteException(LiteException.USAGE, message);
  }

  private static void load() throws LiteException {
    if (Library.PROBLEM != null) {
      throw new LiteException(LiteException.FAULT, Library.PROBLEM);
    }
  }

  private static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static String text(byte[] utf8) {
    return new String(utf8, StandardCharsets.UTF_8);
  }

  // Registered by JNI_OnLoad. A handle is an lr_session*; texts are UTF-8.

  private static native long nativeOpen(byte[] bundle, int threads, int power) throws LiteException;

  private static native void nativeClose(long handle);

  private static native byte[] nativeInfo(long handle) throws LiteException;

  private static native int nativeCount(long handle, int side);

  private static native Object[] nativeSpec(long handle, int side, int index) throws LiteException;

  private static native void nativeSetInput(
      long handle,
      int index,
      byte[] dtype,
      long[] shape,
      ByteBuffer elements,
      int position,
      int bytes)
      throws LiteException;

  private static native void nativeSetImage(
      long handle, ByteBuffer pixels, int position, int width, int height, int stride, int channels)
      throws LiteException;

  private static native void nativeSetFile(long handle, int index, byte[] file)
      throws LiteException;

  private static native void nativeRun(long handle) throws LiteException;

  private static native Object[] nativeOutput(long handle, int index) throws LiteException;

  private static native byte[] nativeLabel(long handle, long classNumber) throws LiteException;

  private static native void nativeRecord(
      long handle, byte[] sampleId, long classNumber, int warmup, int repeat) throws LiteException;

  private static native void nativeRecordSamples(
      long handle, byte[] path, int warmup, int repeat, Progress progress) throws LiteException;

  private static native void nativeForget(long handle);

  private static native Object[] nativeCheck(long handle) throws LiteException;

  private static native byte[] nativeSummary(long handle) throws LiteException;

  private static native void nativeSaveRun(long handle, byte[] folder, boolean force)
      throws LiteException;
}
