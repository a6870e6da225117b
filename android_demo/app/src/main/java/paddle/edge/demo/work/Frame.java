package paddle.edge.demo.work;

import java.nio.ByteBuffer;

/**
 * A camera's frame: 8-bit luminance of every pixel, and two colour differences of every 2 x 2
 * pixels, as Android's YUV_420_888 and JFIF have them (BT.601, full range).
 */
public final class Frame {
  private final int width;
  private final int height;
  private final Plane luma;
  private final Plane blue;
  private final Plane red;

  /**
   * A frame over planes, which are read by {@link #picture} only.
   */
  public Frame(int width, int height, Plane luma, Plane blue, Plane red) {
    this.width = width;
    this.height = height;
    this.luma = luma.holding(width, height);
    this.blue = blue.holding((width + 1) / 2, (height + 1) / 2);
    this.red = red.holding((width + 1) / 2, (height + 1) / 2);
  }

  /**
   * Samples in memory: one each {@code pixelStride} bytes, one row each {@code rowStride}.
   */
  public static final class Plane {
    private final ByteBuffer bytes;
    private final int rowStride;
    private final int pixelStride;

    /** Over a buffer whose position is the first sample. */
    public Plane(ByteBuffer bytes, int rowStride, int pixelStride) {
      this.bytes = bytes;
      this.rowStride = rowStride;
      this.pixelStride = pixelStride;
    }

    private Plane holding(int columns, int rows) {
      // Cameras leave out what follows the last sample of the last row.
      if (columns < 1
          || rows < 1
          || bytes.remaining() <= (rows - 1L) * rowStride + (columns - 1L) * pixelStride) {
        throw new IllegalArgumentException("the plane is too small");
      }
      return this;
    }

    private byte[] row(int row, byte[] into) {
      int from = bytes.position() + row * rowStride;
      ByteBuffer view = bytes.duplicate();
      view.position(from);
      view.get(into, 0, Math.min(into.length, view.remaining()));
      return into;
    }
  }

  /** The pixels as RGBA, not turned. */
  public Picture picture() {
    ByteBuffer pixels = Picture.room(width, height);
    // Whole rows first: single bytes of a direct buffer are slow to read.
    byte[] lumaRow = new byte[(width - 1) * luma.pixelStride + 1];
    byte[] blueRow = new byte[(width - 1) / 2 * blue.pixelStride + 1];
    byte[] redRow = new byte[(width - 1) / 2 * red.pixelStride + 1];
    byte[] out = new byte[4 * width];
    for (int y = 0; y < height; y++) {
      luma.row(y, lumaRow);
      if (y % 2 == 0) {
        blue.row(y / 2, blueRow);
        red.row(y / 2, redRow);
      }
      for (int x = 0; x < width; x++) {
        int light = (lumaRow[x * luma.pixelStride] & 0xff) << 16;
        int b = (blueRow[x / 2 * blue.pixelStride] & 0xff) - 128;
        int r = (redRow[x / 2 * red.pixelStride] & 0xff) - 128;
        // JFIF's factors times 65536: 1.402, 0.344136, 0.714136, 1.772.
        out[4 * x] = clamp(light + 91881 * r);
        out[4 * x + 1] = clamp(light - 22554 * b - 46802 * r);
        out[4 * x + 2] = clamp(light + 116130 * b);
        out[4 * x + 3] = -1;
      }
      pixels.put(out);
    }
    pixels.rewind();
    return new Picture(pixels, width, height, 4 * width);
  }

  private static byte clamp(int fixed) {
    int value = (fixed + 0x8000) >> 16;
    return (byte) (value < 0 ? 0 : Math.min(value, 255));
  }

  /**
   * EXIF's orientation of frames.
   *
   * @param sensor degrees that the sensor is turned by, clockwise, in the device's natural position
   * @param display degrees that the screen is turned by: 0, 90, 180 or 270
   * @param facesUser whether it is a camera on the screen's side: such pictures are not mirrored
   *     here, because a model was trained on pictures as others see them
   */
  public static int orientation(int sensor, int display, boolean facesUser) {
    int clockwise = facesUser ? sensor + display : sensor - display + 360;
    switch (clockwise / 90 % 4) {
      case 1:
        return 6;
      case 2:
        return 3;
      case 3:
        return 8;
      default:
        return 1;
    }
  }

  /** Of sizes {width, height}, the place of the smallest whose short side is at least as wished. */
  public static int fitting(int[][] sizes, int shortSide) {
    int best = -1;
    for (int i = 0; i < sizes.length; i++) {
      boolean better = best < 0;
      if (!better) {
        int mine = Math.min(sizes[i][0], sizes[i][1]);
        int its = Math.min(sizes[best][0], sizes[best][1]);
        boolean enough = mine >= shortSide;
        boolean itsEnough = its >= shortSide;
        long area = (long) sizes[i][0] * sizes[i][1];
        long itsArea = (long) sizes[best][0] * sizes[best][1];
        better = enough != itsEnough ? enough : enough ? area < itsArea : area > itsArea;
      }
      if (better) {
        best = i;
      }
    }
    return best;
  }
}
