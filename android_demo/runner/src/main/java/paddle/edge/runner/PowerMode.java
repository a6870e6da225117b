package paddle.edge.runner;

/** Which cores the engine uses. In the order of Paddle Lite's numbers. */
public enum PowerMode {
  /** Bind to the big cores. */
  HIGH,
  /** Bind to the little cores. */
  LOW,
  /** Bind to all cores. */
  FULL,
  /** Leave it to the kernel. */
  NO_BIND,
  /** Bind to some of the big cores. */
  RAND_HIGH,
  /** Bind to some of the little cores. */
  RAND_LOW
}
