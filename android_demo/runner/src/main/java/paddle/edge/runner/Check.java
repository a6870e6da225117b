package paddle.edge.runner;

/** The verdict on answers, by the limits of the bundle's precision. */
public final class Check {
  private final boolean passed;
  private final String failures;
  private final String report;

  Check(String report, String failures) {
    this.passed = failures == null;
    this.failures = failures == null ? "" : failures;
    this.report = report;
  }

  /** Whether the answers are within the limits. */
  public boolean passed() {
    return passed;
  }

  /** Why it failed, in one line; "" where it passed. */
  public String failures() {
    return failures;
  }

  /** The figures, as JSON: see lr_check in lite_run.h. */
  public String report() {
    return report;
  }
}
