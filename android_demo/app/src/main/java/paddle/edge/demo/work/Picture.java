package paddle.edge.demo.work;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Decoded pixels: 8-bit RGBA in a direct buffer, rows from top to bottom. */
public final class Picture {
  /** Larger pictures are decoded at a half, a quarter ... of their size. */
  public static final long MOST_PIXELS = 16_000_000;

  private static final int BYTES = 4;

  private final ByteBuffer pixels;
  private final int width;
  private final int height;
  private final int stride;

  /**
   * Pixels as they are, not copied.
   *
   * @param pixels a direct buffer whose position is the first pixel
   * @param stride bytes from one row to the next
   */
  public Picture(ByteBuffer pixels, int width, int height, int stride) {
    if (!pixels.isDirect() || width < 1 || height < 1 || stride < (long) BYTES * width) {
      throw new IllegalArgumentException(width + " x " + height + ", rows of " + stride);
    }
    if (pixels.remaining() < (height - 1L) * stride + (long) BYTES * width) {
      throw new IllegalArgumentException("the buffer is too small");
    }
    this.pixels = pixels;
    this.width = width;
    this.height = height;
    this.stride = stride;
  }

  /** Where pixels of a picture without gaps between its rows go. */
  public static ByteBuffer room(int width, int height) {
    long bytes = (long) BYTES * width * height;
    if (width < 1 || height < 1 || bytes > Integer.MAX_VALUE) {
      throw new IllegalArgumentException(width + " x " + height);
    }
    return ByteBuffer.allocateDirect((int) bytes).order(ByteOrder.nativeOrder());
  }

  /** The power of two that a picture's sides are divided by, so that it is not too large. */
  public static int sampling(int width, int height) {
    int by = 1;
    while (((long) width / by) * (height / by) > MOST_PIXELS) {
      by *= 2;
    }
    return by;
  }

  /** The pixels; the position is the first one. */
  public ByteBuffer pixels() {
    return pixels;
  }

  /** Columns. */
  public int width() {
    return width;
  }

  /** Rows. */
  public int height() {
    return height;
  }

  /** Bytes from one row to the next. */
  public int stride() {
    return stride;
  }

  /**
   * The picture turned as a person holds it.
   *
   * @param orientation EXIF's number, 1 to 8; others mean 1, as Pillow has it
   */
  public Picture upright(int orientation) {
    if (orientation < 2 || orientation > 8) {
      return this;
    }
    boolean turned = orientation > 4;
    int columns = turned ? height : width;
    int rows = turned ? width : height;
    ByteBuffer to = room(columns, rows);
    int first = pixels.position();
    ByteBuffer from = pixels.duplicate().order(ByteOrder.nativeOrder());
    for (int row = 0; row < rows; row++) {
      for (int column = 0; column < columns; column++) {
        int x = turned ? row : column;
        int y = turned ? column : row;
        // Where the pixel comes from: 5 to 8 exchange the axes, then these mirror one or both.
        if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) {
          x = width - 1 - x;
        }
        if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) {
          y = height - 1 - y;
        }
        to.putInt(from.getInt(first + y * stride + BYTES * x));
      }
    }
    to.rewind();
    return new Picture(to, columns, rows, BYTES * columns);
  }
}
