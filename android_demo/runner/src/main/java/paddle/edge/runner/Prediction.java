package paddle.edge.runner;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** One class and how likely it is. */
public final class Prediction {
  private final int classNumber;
  private final String label;
  private final float score;
  private final double probability;

  Prediction(int classNumber, String label, float score, double probability) {
    this.classNumber = classNumber;
    this.label = label;
    this.score = score;
    this.probability = probability;
  }

  /** The place in the output. */
  public int classNumber() {
    return classNumber;
  }

  /** The name of the class; null where the bundle has none. */
  public String label() {
    return label;
  }

  /** What the model answered. */
  public float score() {
    return score;
  }

  /** The score where the row sums to 1, or else its softmax; NaN where a score is not finite. */
  public double probability() {
    return probability;
  }

  /** Places of the best scores, best first: NaN last, equal ones by place, as lite_run has it. */
  static List<Integer> best(float[] scores, int count) {
    List<Integer> order = new ArrayList<>(scores.length);
    for (int i = 0; i < scores.length; i++) {
      order.add(i);
    }
    Collections.sort(order, (a, b) -> Float.compare(key(scores[b]), key(scores[a])));
    return order.subList(0, Math.min(count, order.size()));
  }

  private static float key(float score) {
    // 0f + -0f is 0f: Float.compare would tell the two zeros apart.
    return Float.isNaN(score) ? Float.NEGATIVE_INFINITY : score + 0f;
  }

  /** Each score's probability; a row that sums to 1 is left alone, by the limits of compare. */
  static double[] probabilities(float[] scores) {
    double[] values = new double[scores.length];
    double sum = 0;
    double most = Double.NEGATIVE_INFINITY;
    boolean positive = true;
    for (int i = 0; i < scores.length; i++) {
      values[i] = scores[i];
      sum += values[i];
      most = Math.max(most, values[i]);
      positive &= values[i] >= -1e-6;
    }
    if (positive && Math.abs(sum - 1) < 1e-3) {
      return values;
    }
    double total = 0;
    for (int i = 0; i < values.length; i++) {
      values[i] = Math.exp(values[i] - most);
      total += values[i];
    }
    for (int i = 0; i < values.length; i++) {
      values[i] /= total;
    }
    return values;
  }
}
