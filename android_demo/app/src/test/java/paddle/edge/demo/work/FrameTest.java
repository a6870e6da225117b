package paddle.edge.demo.work;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class FrameTest {
  /** A plane with gaps, as long as cameras make it: it ends with its last sample. */
  private static Frame.Plane plane(int[][] samples, int rowStride, int pixelStride) {
    int before = 3;
    int last = (samples.length - 1) * rowStride + (samples[0].length - 1) * pixelStride;
    ByteBuffer bytes = ByteBuffer.allocateDirect(before + last + 1);
    for (int y = 0; y < samples.length; y++) {
      for (int x = 0; x < samples[0].length; x++) {
        bytes.put(before + y * rowStride + x * pixelStride, (byte) samples[y][x]);
      }
    }
    bytes.position(before);
    return new Frame.Plane(bytes, rowStride, pixelStride);
  }

  private static int[][] random(int rows, int columns, Random random) {
    int[][] samples = new int[rows][columns];
    for (int[] row : samples) {
      for (int x = 0; x < columns; x++) {
        row[x] = random.nextInt(256);
      }
    }
    return samples;
  }

  private static int byteOf(double value) {
    return (int) Math.min(255, Math.max(0, Math.floor(value + .5)));
  }

  @ParameterizedTest
  @CsvSource({"4,4,4,1,2,1", "7,5,9,1,5,1", "64,48,80,1,64,2", "1,1,1,1,1,1", "6,4,17,2,9,2"})
  void becomesPixelsAsJfifSays(
      int width, int height, int lumaRow, int lumaPixel, int colourRow, int colourPixel) {
    Random random = new Random(1);
    int[][] luma = random(height, width, random);
    int[][] blue = random((height + 1) / 2, (width + 1) / 2, random);
    int[][] red = random((height + 1) / 2, (width + 1) / 2, random);
    Picture picture =
        new Frame(
                width,
                height,
                plane(luma, lumaRow, lumaPixel),
                plane(blue, colourRow, colourPixel),
                plane(red, colourRow, colourPixel))
            .picture();
    assertEquals(4 * width, picture.stride());
    for (int y = 0; y < height; y++) {
      for (int x = 0; x < width; x++) {
        int b = blue[y / 2][x / 2] - 128;
        int r = red[y / 2][x / 2] - 128;
        int[] expected = {
          byteOf(luma[y][x] + 1.402 * r),
          byteOf(luma[y][x] - 0.344136 * b - 0.714136 * r),
          byteOf(luma[y][x] + 1.772 * b),
          255
        };
        for (int channel = 0; channel < 4; channel++) {
          int at = picture.pixels().position() + y * picture.stride() + 4 * x + channel;
          assertEquals(expected[channel], picture.pixels().get(at) & 0xff, 1);
        }
      }
    }
  }

  @Test
  void greyStaysGrey() {
    int[][] luma = {{0, 1}, {128, 255}};
    int[][] none = {{128}};
    Picture picture =
        new Frame(2, 2, plane(luma, 2, 1), plane(none, 1, 1), plane(none, 1, 1)).picture();
    for (int i = 0; i < 16; i++) {
      int expected = i % 4 == 3 ? 255 : luma[i / 8][i / 4 % 2];
      assertEquals(expected, picture.pixels().get(i) & 0xff);
    }
  }

  @Test
  void planesHaveToHoldTheFrame() {
    int[][] luma = new int[4][4];
    int[][] colour = new int[2][2];
    assertThrows(
        IllegalArgumentException.class,
        () -> new Frame(4, 5, plane(luma, 4, 1), plane(colour, 2, 1), plane(colour, 2, 1)));
    assertThrows(
        IllegalArgumentException.class,
        () -> new Frame(4, 4, plane(luma, 4, 1), plane(colour, 2, 1), plane(new int[1][2], 2, 1)));
    assertThrows(
        IllegalArgumentException.class,
        () -> new Frame(0, 4, plane(luma, 4, 1), plane(colour, 2, 1), plane(colour, 2, 1)));
  }

  // A back camera's sensor is usually turned by 90 degrees: a phone held upright turns its frames.
  @ParameterizedTest
  @CsvSource({
      "90,0,false,6", "90,90,false,1", "90,180,false,8", "90,270,false,3", "0,0,false,1",
      "270,0,true,8", "270,90,true,1", "270,180,true,6", "270,270,true,3", "270,0,false,8"
  })
  void isTurnedAsTheDeviceIs(int sensor, int display, boolean facesUser, int expected) {
    assertEquals(expected, Frame.orientation(sensor, display, facesUser));
  }

  @Test
  void sizesAreLargeEnoughAndNotLarger() {
    int[][] sizes = {{4000, 3000}, {640, 480}, {1280, 720}, {320, 240}, {720, 480}};
    assertEquals(1, Frame.fitting(sizes, 480));
    assertEquals(2, Frame.fitting(sizes, 481));
    assertEquals(0, Frame.fitting(sizes, 5000));
    assertEquals(-1, Frame.fitting(new int[0][], 480));
    assertTrue(Frame.fitting(new int[][] {{1, 1}}, 480) == 0);
  }
}
