package paddle.edge.runner;

/** An input or output as the bundle describes it. */
public final class TensorSpec {
  private final String name;
  private final String dtype;
  private final long[] shape;

  TensorSpec(String name, String dtype, long[] shape) {
    this.name = name;
    this.dtype = dtype;
    this.shape = shape;
  }

  /** As the source model called it. */
  public String name() {
    return name;
  }

  /** NumPy's name of the elements' type, such as "float32". */
  public String dtype() {
    return dtype;
  }

  /** The dimensions; -1 is one that the caller chooses. */
  public long[] shape() {
    return shape.clone();
  }

  /** Such as "float32[?, 3, 224, 224]". */
  @Override
  public String toString() {
    StringBuilder text = new StringBuilder(dtype).append('[');
    for (int i = 0; i < shape.length; i++) {
      text.append(i > 0 ? ", " : "").append(shape[i] < 0 ? "?" : Long.toString(shape[i]));
    }
    return text.append(']').toString();
  }
}
