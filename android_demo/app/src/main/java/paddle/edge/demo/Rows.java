package paddle.edge.demo;

import android.content.Context;
import android.view.LayoutInflater;
import android.view.View;
import android.view.ViewGroup;
import android.widget.ProgressBar;
import android.widget.TextView;
import java.util.List;
import java.util.Locale;
import paddle.edge.demo.work.Figures;
import paddle.edge.demo.work.Refused;
import paddle.edge.demo.work.Screen;

/** Answers and states in words and bars. */
final class Rows {
  private static final int BAR = 1000;

  private Rows() {}

  /** Shows an answer in a list of views, which are made once and used again. */
  static void show(ViewGroup list, List<Screen.Row> rows) {
    Context context = list.getContext();
    LayoutInflater inflater = LayoutInflater.from(context);
    while (list.getChildCount() < rows.size()) {
      inflater.inflate(R.layout.row, list, true);
    }
    for (int i = 0; i < list.getChildCount(); i++) {
      View view = list.getChildAt(i);
      view.setVisibility(i < rows.size() ? View.VISIBLE : View.GONE);
      if (i < rows.size()) {
        Screen.Row row = rows.get(i);
        String percent = Figures.percent(row.probability, Locale.getDefault());
        ((TextView) view.findViewById(R.id.label)).setText(row.label);
        ((TextView) view.findViewById(R.id.percent)).setText(percent);
        ProgressBar bar = (ProgressBar) view.findViewById(R.id.bar);
        bar.setProgress((int) Math.round(BAR * row.probability)); // 0 for NaN
        view.setContentDescription(context.getString(R.string.row, row.label, percent));
      }
    }
  }

  /** What goes on, what went wrong, or else what was found. */
  static String status(Context context, Screen screen) {
    Locale locale = Locale.getDefault();
    switch (screen.task) {
      case FILLING:
        return context.getString(R.string.filling);
      case IMPORTING:
        return context.getString(R.string.importing);
      case REMOVING:
        return context.getString(R.string.removing);
      case CLASSIFYING:
        return context.getString(R.string.classifying);
      case MEASURING:
        return context.getString(R.string.measuring);
      case CHECKING:
        return screen.total == 0
            ? context.getString(R.string.checking)
            : context.getString(R.string.checking_samples, screen.done, screen.total);
      default:
        break;
    }
    if (screen.refused != null) {
      return context.getString(refusal(screen.refused), screen.problem);
    }
    if (screen.problem != null) {
      return context.getString(R.string.problem, screen.problem);
    }
    if (screen.interrupted) {
      return context.getString(R.string.interrupted);
    }
    if (screen.bundle == null) {
      return context.getString(R.string.no_bundles);
    }
    StringBuilder text = new StringBuilder();
    if (!Double.isNaN(screen.answerMs)) {
      line(text, context.getString(R.string.answered, Figures.ms(screen.answerMs, locale)));
    }
    if (!Double.isNaN(screen.p50Ms)) {
      line(
          text,
          context.getString(
              R.string.measured,
              Figures.ms(screen.p50Ms, locale),
              Figures.ms(screen.p90Ms, locale),
              screen.measured));
    }
    if (screen.verdict != null) {
      line(text, context.getString(screen.passed ? R.string.passed : R.string.failed));
    }
    return text.length() > 0 ? text.toString() : context.getString(R.string.choose_picture);
  }

  private static void line(StringBuilder text, String line) {
    text.append(text.length() > 0 ? "\n" : "").append(line);
  }

  private static int refusal(Refused.Reason reason) {
    switch (reason) {
      case NOT_A_ZIP:
        return R.string.refused_not_a_zip;
      case DAMAGED:
        return R.string.refused_damaged;
      case LEADS_OUT:
        return R.string.refused_leads_out;
      case TOO_LARGE:
        return R.string.refused_too_large;
      case TOO_MANY:
        return R.string.refused_too_many;
      case TWICE:
        return R.string.refused_twice;
      case NO_BUNDLE:
        return R.string.refused_no_bundle;
      case MANIFEST:
        return R.string.refused_manifest;
      case OTHER_FORMAT:
        return R.string.refused_other_format;
      case CHECKSUM:
        return R.string.refused_checksum;
      case MISSING:
        return R.string.refused_missing;
      case NO_PICTURE:
        return R.string.refused_no_picture;
      default:
        throw new AssertionError(reason);
    }
  }
}
