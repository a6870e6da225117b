package paddle.edge.demo.work;

/**
 * Something that is opened in two steps, such as the reader of a camera's frames and then the
 * camera: once at a time, and where the second step fails the first is undone, so that it can be
 * tried again.
 *
 * @param <T> what the first step makes
 * @param <E> what a step throws that is no mistake
 */
public final class Attempt<T, E extends Exception> {
  private final Steps<T, E> steps;
  private T held;

  /** Nothing is open. */
  public Attempt(Steps<T, E> steps) {
    this.steps = steps;
  }

  /** What is done to open and to close. */
  public interface Steps<T, E extends Exception> {
    /** The first step; null where there is nothing to open. */
    T make() throws E;

    /** The second step. */
    void start(T made) throws E;

    /** Undoes the first. */
    void release(T made);
  }

  /** What the first step made; null where nothing is open. */
  public T held() {
    return held;
  }

  /** Opens, where nothing is open; false where there is nothing to open. */
  public boolean open() throws E {
    if (held != null) {
      return true;
    }
    held = steps.make();
    if (held == null) {
      return false;
    }
    boolean started = false;
    try {
      steps.start(held);
      started = true;
    } finally {
      if (!started) {
        close();
      }
    }
    return true;
  }

  /** Undoes the first step; what the second one opened is the caller's. Twice is fine. */
  public void close() {
    T made = held;
    held = null;
    if (made != null) {
      steps.release(made);
    }
  }
}
