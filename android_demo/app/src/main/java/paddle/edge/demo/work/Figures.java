package paddle.edge.demo.work;

import java.util.Locale;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** Numbers as a person reads them. */
public final class Figures {
  private static final String NO_FEATURE = "neither dot product nor fp16";

  private Figures() {}

  /** A share, such as "12.3 %"; "-" where it is no number. */
  public static String percent(double share, Locale locale) {
    return finite(share) ? String.format(locale, "%.1f %%", 100 * share) : "-";
  }

  /** A time, such as "0.123 ms" or "12.3 ms": three digits where there are so many. */
  public static String ms(double ms, Locale locale) {
    if (!finite(ms)) {
      return "-";
    }
    int decimals = ms < 1 ? 3 : ms < 10 ? 2 : ms < 100 ? 1 : 0;
    return String.format(locale, "%." + decimals + "f ms", ms);
  }

  /**
   * The verdict of a self-check, line by line as the command lite_run prints it.
   *
   * @param bundle what it calls the bundle
   * @param info what LiteRunner says of itself, as JSON
   * @param report of its check, as JSON
   * @param summary of its record, as JSON
   */
  public static String verdict(String bundle, String info, String report, String summary) {
    try {
      return verdict(
          bundle, new JSONObject(info), new JSONObject(report), new JSONObject(summary));
    } catch (JSONException error) {
      throw new IllegalArgumentException("not what LiteRunner gives: " + error.getMessage());
    }
  }

  private static String verdict(
      String bundle, JSONObject info, JSONObject report, JSONObject summary) throws JSONException {
    StringBuilder text = new StringBuilder();
    JSONArray outputs = report.getJSONArray("outputs");
    for (int i = 0; i < outputs.length(); i++) {
      JSONObject output = outputs.getJSONObject(i);
      String what = output.getString("kind").equals("tensor") ? "relative difference" : "max |dp|";
      text.append("output '")
          .append(output.getString("name"))
          .append("' (")
          .append(output.getString("kind"))
          .append("): cosine ")
          .append(figure(output, "cosine", "%.9f"))
          .append(", worst ")
          .append(figure(output, "cosine_min", "%.9f"))
          .append(" for '")
          .append(output.getString("worst"))
          .append("', ")
          .append(what)
          .append(' ')
          .append(figure(output, "max_probability_diff", "%.1e"))
          .append(", response ")
          .append(figure(output, "response", "%.3f"))
          .append('\n');
    }
    if (!report.isNull("top1_agreement")) {
      double share = report.getDouble("top1_agreement");
      text.append(String.format(Locale.ROOT, "top-1 agreement %.1f %%\n", 100 * share));
    }
    JSONArray failures = report.getJSONArray("failures");
    for (int i = 0; i < failures.length(); i++) {
      text.append("FAILED: ").append(failures.getString(i)).append('\n');
    }
    JSONObject cpu = info.optJSONObject("cpu");
    if (cpu != null && !cpu.getJSONArray("parts").isNull(0)) {
      text.append("CPU part ")
          .append(words(cpu.getJSONArray("parts"), ""))
          .append(" has ")
          .append(words(cpu.getJSONArray("features"), NO_FEATURE))
          .append("; the engine uses ")
          .append(words(cpu.getJSONArray("engine_features"), NO_FEATURE))
          .append(cpu.getString("why").isEmpty() ? "" : " (" + cpu.getString("why") + ")")
          .append('\n');
    }
    return text.append(report.getBoolean("passed") ? "passed: " : "failed: ")
        .append(bundle)
        .append(" (")
        .append(info.getString("precision"))
        .append(") on ")
        .append(info.getString("machine"))
        .append(", Paddle Lite ")
        .append(info.getString("engine"))
        .append(", ")
        .append(report.getInt("samples"))
        .append(" samples, p50 ")
        .append(figure(summary.getJSONObject("latency"), "p50_ms", "%.2f ms"))
        .toString();
  }

  private static String words(JSONArray list, String none) throws JSONException {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < list.length(); i++) {
      text.append(i == 0 ? "" : ", ").append(list.getString(i));
    }
    return text.length() == 0 ? none : text.toString();
  }

  private static String figure(JSONObject object, String name, String format)
      throws JSONException {
    return object.isNull(name) ? "-" : String.format(Locale.ROOT, format, object.getDouble(name));
  }

  private static boolean finite(double value) {
    return !Double.isNaN(value) && !Double.isInfinite(value);
  }
}
