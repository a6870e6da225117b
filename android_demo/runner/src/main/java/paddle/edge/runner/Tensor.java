package paddle.edge.runner;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** An output: the elements in C order, a copy of the engine's. */
public final class Tensor {
  private static final int FLOAT_BYTES = 4;

  private final String dtype;
  private final long[] shape;
  private final byte[] elements;

  Tensor(String dtype, long[] shape, byte[] elements) {
    this.dtype = dtype;
    this.shape = shape;
    this.elements = elements;
  }

  /** NumPy's name of the elements' type, such as "float32". */
  public String dtype() {
    return dtype;
  }

  /** The dimensions. */
  public long[] shape() {
    return shape.clone();
  }

  /** The elements, read-only, in this machine's byte order. */
  public ByteBuffer elements() {
    return ByteBuffer.wrap(elements).asReadOnlyBuffer().order(ByteOrder.nativeOrder());
  }

  /**
   * The elements as floats.
   *
   * @throws LiteException where they are not "float32"
   */
  public float[] floats() throws LiteException {
    if (!dtype.equals("float32")) {
      throw new LiteException(LiteException.USAGE, "the tensor is " + dtype + ", not float32");
    }
    float[] values = new float[elements.length / FLOAT_BYTES];
    elements().asFloatBuffer().get(values);
    return values;
  }

  /** Whether it is one row of at least two scores: a class each. */
  public boolean isRow() {
    return dtype.equals("float32")
        && shape.length > 0
        && elements.length >= 2 * FLOAT_BYTES
        && elements.length / FLOAT_BYTES == shape[shape.length - 1];
  }
}
