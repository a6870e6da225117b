package paddle.edge.demo.work;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.text.SimpleDateFormat;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Executor;
import org.json.JSONException;
import org.json.JSONObject;
import paddle.edge.runner.Check;
import paddle.edge.runner.LiteException;
import paddle.edge.runner.LiteRunner;
import paddle.edge.runner.PowerMode;
import paddle.edge.runner.Prediction;
import paddle.edge.runner.TensorSpec;

/**
 * Does the app's work, one task at a time, away from the thread that draws, and keeps what the
 * screen shows. It lives as long as the process: screens come and go with {@link #attach}.
 */
public final class Workbench {
  /** Classes that are shown. */
  public static final int TOP = 5;

  /** Inferences before those that are measured. */
  public static final int WARMUP = 5;

  /** Inferences that are measured. */
  public static final int REPEAT = 50;

  private static final int KEPT_RUNS = 5;

  private final Shelf shelf;
  private final File runs;
  private final Executor worker;
  private final Executor drawing;
  private final Screen.Draft draft;
  private Listener listener;
  private boolean cancelled;
  private Runnable waiting; // for the task that goes on; null for none

  // Only the worker uses these.
  private LiteRunner runner;
  private String opened;

  /**
   * A bench without work.
   *
   * @param runs folder for Runs and their archives; made when needed, older ones are removed
   * @param worker runs one task at a time
   * @param drawing where the listener is called
   * @param saved what {@link Screen#save} gave in an earlier process, or null
   */
  public Workbench(Shelf shelf, File runs, Executor worker, Executor drawing, String saved) {
    this.shelf = shelf;
    this.runs = runs;
    this.worker = worker;
    this.drawing = drawing;
    this.draft = Screen.restored(saved);
  }

  /** Is told of each change. */
  public interface Listener {
    /** Draw this. */
    void changed(Screen screen);
  }

  /** Gives a picture, decoded; called by the worker. */
  public interface Reader {
    /** The pixels, upright. */
    Picture read() throws IOException;
  }

  /** Gives a stream; called by the worker, which closes it. */
  public interface Opener {
    /** Opens it. */
    InputStream open() throws IOException;
  }

  /** What to show now. */
  public synchronized Screen screen() {
    return new Screen(draft);
  }

  /** From now on this listener is told, and no other; at once of the state as it is. */
  public synchronized void attach(Listener newListener) {
    listener = newListener;
    tell();
  }

  /**
   * Ends {@link #attach}; nothing happens where another listener has come meanwhile.
   */
  public synchronized void detach(Listener oldListener) {
    if (listener == oldListener) {
      listener = null;
    }
  }

  /** Makes the bundles of the app's package available, and chooses one where none is chosen. */
  public boolean fill(Shelf.Assets assets, String root, String stamp) {
    return start(
        Screen.Task.FILLING,
        () -> {
          try {
            shelf.fill(assets, root, stamp);
          } finally {
            listBundles(null);
          }
        });
  }

  /** Imports a zipped bundle and chooses it. */
  public boolean add(Opener zip) {
    return start(
        Screen.Task.IMPORTING,
        () -> {
          String name;
          try (InputStream in = zip.open()) {
            name = shelf.add(in);
          }
          closeRunner(); // it may be of the bundle that was replaced
          listBundles(name);
        });
  }

  /** Removes the chosen bundle for good, and chooses another one; its Runs stay. */
  public boolean remove() {
    return start(
        Screen.Task.REMOVING,
        () -> {
          String name = chosen();
          closeRunner(); // it reads the bundle's files
          try {
            shelf.remove(name);
          } finally {
            listBundles(null);
          }
        });
  }

  /** Chooses what the next task runs; refused during a task. */
  public synchronized boolean choose(String bundle, int threads, PowerMode power) {
    if (draft.task != Screen.Task.NONE) {
      return false;
    }
    if (bundle == null ? draft.bundle != null : !bundle.equals(draft.bundle)) {
      draft.forgetResults();
    }
    draft.bundle = bundle;
    draft.threads = threads;
    draft.power = power;
    tell();
    return true;
  }

  /**
   * Classifies a picture.
   *
   * @param picture its path, to be shown; null for one that has none, such as a camera's
   */
  public boolean classify(String picture, Reader reader) {
    return start(
        Screen.Task.CLASSIFYING,
        () -> {
          synchronized (this) {
            draft.picture = picture;
            draft.rows = new ArrayList<>();
            draft.answerMs = Double.NaN;
          }
          Picture pixels = reader.read();
          LiteRunner model = runner();
          model.setImage(pixels.pixels(), pixels.width(), pixels.height(), pixels.stride());
          model.run();
          final List<Screen.Row> rows = answer(model);
          synchronized (this) {
            draft.rows = rows;
            draft.answerMs = model.lastRunMs();
          }
        });
  }

  /** Runs the bundle's samples and compares the answers with the server's. */
  public boolean check() {
    return start(
        Screen.Task.CHECKING,
        () -> {
          LiteRunner model = runner();
          Check check = model.selfCheck(this::goesOn);
          String verdict =
              Figures.verdict(chosen(), model.info(), check.report(), model.summary());
          String run = keep(model, "check");
          synchronized (this) {
            draft.verdict = verdict;
            draft.passed = check.passed();
            draft.run = run;
          }
        });
  }

  /** Measures the latency of the bundle's first sample, as lite_run --bench does. */
  public boolean measure(int warmup, int repeat) {
    return start(
        Screen.Task.MEASURING,
        () -> {
          LiteRunner model = runner();
          model.forget();
          model.recordSamples(null, warmup, repeat, (done, total) -> false);
          JSONObject latency;
          try {
            latency = new JSONObject(model.summary()).getJSONObject("latency");
            synchronized (this) {
              draft.p50Ms = latency.getDouble("p50_ms");
              draft.p90Ms = latency.getDouble("p90_ms");
              draft.measured = latency.getInt("count");
            }
          } catch (JSONException error) {
            throw new IOException("the summary cannot be read: " + error.getMessage());
          }
          String run = keep(model, "benchmark");
          synchronized (this) {
            draft.run = run;
          }
        });
  }

  /**
   * Calls one of the methods above now, or as soon as the task that goes on is done: what the user
   * chose in another app arrives when it arrives, such as in a new process that is still filling.
   *
   * @param task replaces one that waits
   */
  public synchronized void whenIdle(Runnable task) {
    if (draft.task == Screen.Task.NONE) {
      task.run();
    } else {
      waiting = task;
    }
  }

  /** Ends a self-check after the sample that is being run: the verdict is on those so far. */
  public synchronized void cancel() {
    cancelled = true;
  }

  /** Says what went wrong elsewhere. */
  public synchronized void complain(String problem) {
    draft.problem = problem;
    tell();
  }

  /** Releases the engine once the task that goes on is done; the next task opens it again. */
  public void close() {
    worker.execute(this::closeRunner);
  }

  private interface Job {
    void work() throws IOException, LiteException;
  }

  private synchronized boolean start(Screen.Task task, Job job) {
    if (draft.task != Screen.Task.NONE) {
      return false;
    }
    draft.task = task;
    draft.done = 0;
    draft.total = 0;
    if (task != Screen.Task.FILLING) { // which nobody asked for
      draft.forgetProblem();
    }
    cancelled = false;
    tell();
    try {
      worker.execute(() -> perform(job));
    } catch (RuntimeException | Error error) { // no thread to be had
      end(null, error.toString());
    }
    return true;
  }

  private void perform(Job job) {
    Refused.Reason refused = null;
    String problem = null;
    try {
      job.work();
    } catch (Refused error) {
      refused = error.reason();
      problem = error.detail();
    } catch (IOException | LiteException error) {
      problem = String.valueOf(error.getMessage());
    } catch (RuntimeException | Error error) {
      // A mistake of ours, no memory, or a library that does not fit: the app goes on.
      problem = error.toString();
      forgetRunner();
    }
    end(refused, problem);
  }

  private synchronized void end(Refused.Reason refused, String problem) {
    draft.task = Screen.Task.NONE;
    if (problem != null) {
      draft.refused = refused;
      draft.problem = problem;
    }
    tell();
    if (waiting != null) {
      Runnable next = waiting;
      waiting = null;
      next.run();
    }
  }

  // After what nobody foresaw: the next task opens the model anew.
  private void forgetRunner() {
    try {
      closeRunner();
    } catch (RuntimeException | Error error) {
      runner = null; // what is said is what came first
    }
  }

  private synchronized boolean goesOn(int done, int total) {
    draft.done = done;
    draft.total = total;
    tell();
    return !cancelled;
  }

  private synchronized String chosen() throws IOException {
    if (draft.bundle == null || shelf.find(draft.bundle) == null) {
      throw new Refused(Refused.Reason.NO_BUNDLE, draft.bundle == null ? "-" : draft.bundle);
    }
    return draft.bundle;
  }

  private LiteRunner runner() throws IOException, LiteException {
    String bundle = chosen();
    int threads;
    PowerMode power;
    synchronized (this) {
      threads = draft.threads;
      power = draft.power;
    }
    String wanted = threads + " " + power + " " + bundle;
    if (runner == null || !wanted.equals(opened)) {
      closeRunner(); // first: two models may not fit into memory
      runner = LiteRunner.open(shelf.find(bundle), threads, power);
      opened = wanted;
    }
    return runner;
  }

  private void closeRunner() {
    if (runner != null) {
      runner.close();
      runner = null;
    }
  }

  private static List<Screen.Row> answer(LiteRunner model) throws LiteException {
    List<Screen.Row> rows = new ArrayList<>();
    List<TensorSpec> outputs = model.outputs();
    for (int i = 0; i < outputs.size(); i++) {
      if (model.output(i).isRow()) {
        for (Prediction best : model.top(i, TOP)) {
          String label = best.label() != null ? best.label() : "#" + best.classNumber();
          rows.add(new Screen.Row(label, best.probability()));
        }
      } else {
        String shape = Arrays.toString(model.output(i).shape());
        rows.add(new Screen.Row(outputs.get(i).name() + " " + shape, Double.NaN));
      }
    }
    return rows;
  }

  // Saves the record as a Run folder and beside it as an archive; answers the archive.
  private String keep(LiteRunner model, String what) throws IOException, LiteException {
    BundleFiles.makeFolder(runs);
    File[] old = runs.listFiles();
    if (old != null) {
      Arrays.sort(old, (a, b) -> Long.compare(a.lastModified(), b.lastModified()));
      for (int i = 0; i < old.length - 2 * (KEPT_RUNS - 1); i++) {
        BundleFiles.delete(old[i]);
      }
    }
    String time = new SimpleDateFormat("yyyyMMdd-HHmmss", Locale.ROOT).format(new Date());
    File folder = new File(runs, chosen() + "-" + what + "-" + time);
    model.saveRun(folder, true);
    File zip = new File(runs, folder.getName() + ".zip");
    RunZip.write(folder, zip);
    return zip.getPath();
  }

  private void listBundles(String choice) {
    List<String> names = shelf.names();
    synchronized (this) {
      draft.bundles = names;
      String bundle = choice != null ? choice : draft.bundle;
      if (!names.contains(bundle)) {
        bundle = names.isEmpty() ? null : names.get(0);
      }
      if (bundle == null || !bundle.equals(draft.bundle)) {
        draft.forgetResults();
      }
      draft.bundle = bundle;
    }
  }

  // Called with the lock held: listeners get the states in their order.
  private void tell() {
    Listener current = listener;
    if (current != null) {
      Screen now = new Screen(draft);
      drawing.execute(
          () -> {
            synchronized (Workbench.this) {
              if (listener != current) {
                return; // detached meanwhile
              }
            }
            current.changed(now);
          });
    }
  }
}
