package paddle.edge.demo.work;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;
import paddle.edge.runner.PowerMode;

/**
 * All that the screen shows, at one moment. It survives a rotation because {@link Workbench} keeps
 * it, and the end of the process because {@link #save} makes a text of it.
 */
public final class Screen {
  /** What goes on; NONE accepts a new task. */
  public final Task task;

  /**
   * Samples done so far; of none where {@code total} is 0.
   */
  public final int done;

  /** Samples to do. */
  public final int total;

  /** Names of the bundles that can be chosen. */
  public final List<String> bundles;

  /** The chosen bundle; null for none. */
  public final String bundle;

  /** CPU threads. */
  public final int threads;

  /** Which cores. */
  public final PowerMode power;

  /** Path of the picture that was asked about; null for none. */
  public final String picture;

  /** The answer: best classes first, or one row an output that is no row of scores. */
  public final List<Row> rows;

  /** How long the inference took; NaN where there is no answer. */
  public final double answerMs;

  /** The last self-check, in lite_run's words; null for none. */
  public final String verdict;

  /** Whether it passed. */
  public final boolean passed;

  /** Median of the last benchmark; NaN for none. */
  public final double p50Ms;

  /** Ninth decile of the last benchmark; NaN for none. */
  public final double p90Ms;

  /** Inferences that were measured. */
  public final int measured;

  /** The zipped Run of the last self-check or benchmark, to be shared; null for none. */
  public final String run;

  /** Why an imported file was refused; null where it was not. */
  public final Refused.Reason refused;

  /** What went wrong, or what the refused file is about; null for nothing. */
  public final String problem;

  /** Whether the process ended during a task, whose result is therefore missing. */
  public final boolean interrupted;

  Screen(Draft draft) {
    task = draft.task;
    done = draft.done;
    total = draft.total;
    bundles = Collections.unmodifiableList(new ArrayList<>(draft.bundles));
    bundle = draft.bundle;
    threads = draft.threads;
    power = draft.power;
    picture = draft.picture;
    rows = Collections.unmodifiableList(new ArrayList<>(draft.rows));
    answerMs = draft.answerMs;
    verdict = draft.verdict;
    passed = draft.passed;
    p50Ms = draft.p50Ms;
    p90Ms = draft.p90Ms;
    measured = draft.measured;
    run = draft.run;
    refused = draft.refused;
    problem = draft.problem;
    interrupted = draft.interrupted;
  }

  /** What can go on. */
  public enum Task {
    /** Nothing. */
    NONE,
    /** The bundles of the app's package are unpacked. */
    FILLING,
    /** A picture is decoded and classified. */
    CLASSIFYING,
    /** The bundle's samples are compared with the server's answers. */
    CHECKING,
    /** Latency is measured. */
    MEASURING,
    /** A zipped bundle is unpacked. */
    IMPORTING,
    /** A bundle is removed. */
    REMOVING
  }

  /** A line of the answer. */
  public static final class Row {
    /** The class, or the output. */
    public final String label;

    /** The class's probability; NaN for an output that is no row of scores. */
    public final double probability;

    Row(String label, double probability) {
      this.label = label;
      this.probability = probability;
    }
  }

  /** What is about to become a Screen. */
  static final class Draft {
    Task task = Task.NONE;
    int done;
    int total;
    List<String> bundles = new ArrayList<>();
    String bundle;
    int threads = 1;
    PowerMode power = PowerMode.NO_BIND;
    String picture;
    List<Row> rows = new ArrayList<>();
    double answerMs = Double.NaN;
    String verdict;
    boolean passed;
    double p50Ms = Double.NaN;
    double p90Ms = Double.NaN;
    int measured;
    String run;
    Refused.Reason refused;
    String problem;
    boolean interrupted;

    void forgetResults() {
      rows = new ArrayList<>();
      answerMs = Double.NaN;
      verdict = null;
      p50Ms = Double.NaN;
      p90Ms = Double.NaN;
      run = null;
      forgetProblem();
    }

    void forgetProblem() {
      refused = null;
      problem = null;
      interrupted = false;
    }
  }

  /**
   * A text to be kept by the system while the process is gone; {@link #restored} reads it.
   */
  public String save() {
    try {
      JSONObject saved = new JSONObject();
      saved.put("interrupted", interrupted || task != Task.NONE && task != Task.FILLING);
      saved.put("bundle", bundle);
      saved.put("threads", threads);
      saved.put("power", power.name());
      saved.put("picture", picture);
      JSONArray answer = new JSONArray();
      for (Row row : rows) {
        answer.put(new JSONArray().put(row.label).put(text(row.probability)));
      }
      saved.put("rows", answer);
      saved.put("answerMs", text(answerMs));
      saved.put("verdict", verdict);
      saved.put("passed", passed);
      saved.put("p50Ms", text(p50Ms));
      saved.put("p90Ms", text(p90Ms));
      saved.put("measured", measured);
      saved.put("run", run);
      saved.put("refused", refused == null ? null : refused.name());
      saved.put("problem", problem);
      return saved.toString();
    } catch (JSONException error) {
      throw new AssertionError("no number here is infinite", error);
    }
  }

  /** What was saved; a fresh start where it is null or cannot be read. */
  static Draft restored(String text) {
    Draft draft = new Draft();
    if (text == null) {
      return draft;
    }
    try {
      JSONObject saved = new JSONObject(text);
      draft.interrupted = saved.getBoolean("interrupted");
      draft.bundle = nullable(saved, "bundle");
      draft.threads = saved.getInt("threads");
      draft.power = PowerMode.valueOf(saved.getString("power"));
      draft.picture = nullable(saved, "picture");
      JSONArray answer = saved.getJSONArray("rows");
      for (int i = 0; i < answer.length(); i++) {
        JSONArray row = answer.getJSONArray(i);
        draft.rows.add(new Row(row.getString(0), Double.parseDouble(row.getString(1))));
      }
      draft.answerMs = Double.parseDouble(saved.getString("answerMs"));
      draft.verdict = nullable(saved, "verdict");
      draft.passed = saved.getBoolean("passed");
      draft.p50Ms = Double.parseDouble(saved.getString("p50Ms"));
      draft.p90Ms = Double.parseDouble(saved.getString("p90Ms"));
      draft.measured = saved.getInt("measured");
      draft.run = nullable(saved, "run");
      String reason = nullable(saved, "refused");
      draft.refused = reason == null ? null : Refused.Reason.valueOf(reason);
      draft.problem = nullable(saved, "problem");
      return draft;
    } catch (JSONException | IllegalArgumentException error) {
      return new Draft(); // of an older version of the app
    }
  }

  // JSON has no NaN.
  private static String text(double number) {
    return Double.toString(number);
  }

  private static String nullable(JSONObject object, String name) throws JSONException {
    return object.isNull(name) ? null : object.getString(name);
  }
}
