package paddle.edge.runner;

import java.nio.charset.StandardCharsets;

/**
 * What LiteRunner throws, and all that it throws: one line that says what, which file, and what to
 * do.
 */
public final class LiteException extends Exception {
  /** The call is wrong. */
  public static final int USAGE = 2;

  /** A file, the machine or the engine is at fault. */
  public static final int FAULT = 3;

  private static final long serialVersionUID = 1;

  private final int status;

  LiteException(int status, String message) {
    super(message);
    this.status = status;
  }

  LiteException(int status, byte[] message) {
    this(status, new String(message, StandardCharsets.UTF_8));
  }

  /** Whose fault it is: USAGE or FAULT. */
  public int status() {
    return status;
  }
}
