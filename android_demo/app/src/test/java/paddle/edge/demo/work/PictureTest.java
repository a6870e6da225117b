package paddle.edge.demo.work;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PictureTest {
  /** Two rows of three pixels, "abc" and "def", in rows with a gap, after four other bytes. */
  private static Picture letters() {
    ByteBuffer pixels = ByteBuffer.allocateDirect(4 + 2 * 16);
    for (int i = 0; i < 6; i++) {
      pixels.put(4 + i / 3 * 16 + i % 3 * 4, (byte) ('a' + i));
      pixels.put(4 + i / 3 * 16 + i % 3 * 4 + 3, (byte) (100 + i)); // alpha goes along
    }
    pixels.position(4);
    return new Picture(pixels, 3, 2, 16);
  }

  private static String read(Picture picture) {
    StringBuilder text = new StringBuilder();
    for (int y = 0; y < picture.height(); y++) {
      text.append(y > 0 ? "/" : "");
      for (int x = 0; x < picture.width(); x++) {
        int at = picture.pixels().position() + y * picture.stride() + 4 * x;
        char letter = (char) picture.pixels().get(at);
        assertEquals(100 + letter - 'a', picture.pixels().get(at + 3));
        text.append(letter);
      }
    }
    return text.toString();
  }

  // What ImageOps.exif_transpose of Pillow makes of it: tests/test_android.py compares.
  @ParameterizedTest
  @CsvSource({
      "0,abc/def", "1,abc/def", "2,cba/fed", "3,fed/cba", "4,def/abc", "5,ad/be/cf", "6,da/eb/fc",
      "7,fc/eb/da", "8,cf/be/ad", "9,abc/def", "-1,abc/def"
  })
  void isTurnedUpright(int orientation, String expected) {
    Picture upright = letters().upright(orientation);
    assertEquals(expected, read(upright));
    assertEquals(4, letters().pixels().position());
    assertTrue(upright.pixels().isDirect());
  }

  @Test
  void anUprightPictureIsNotCopied() {
    Picture picture = letters();
    assertSame(picture, picture.upright(1));
  }

  @Test
  void largePicturesAreDecodedSmaller() {
    assertEquals(1, Picture.sampling(4000, 4000));
    assertEquals(2, Picture.sampling(4001, 4000));
    assertEquals(4, Picture.sampling(16320, 12240)); // 200 megapixels
    assertEquals(1, Picture.sampling(1, 1));
    int huge = Picture.sampling(Integer.MAX_VALUE, Integer.MAX_VALUE);
    assertTrue((long) (Integer.MAX_VALUE / huge) * (Integer.MAX_VALUE / huge) <= 16_000_000);
  }

  @Test
  void buffersHaveToHoldThePicture() {
    ByteBuffer pixels = ByteBuffer.allocateDirect(16 + 12);
    assertEquals(16, new Picture(pixels, 3, 2, 16).stride());
    assertThrows(IllegalArgumentException.class, () -> new Picture(pixels, 3, 3, 12));
    assertThrows(IllegalArgumentException.class, () -> new Picture(pixels, 3, 2, 11));
    assertThrows(IllegalArgumentException.class, () -> new Picture(pixels, 0, 2, 16));
    assertThrows(
        IllegalArgumentException.class, () -> new Picture(ByteBuffer.allocate(99), 3, 2, 16));
    assertThrows(IllegalArgumentException.class, () -> Picture.room(40_000, 40_000));
    assertThrows(IllegalArgumentException.class, () -> Picture.room(0, 1));
    assertEquals(24, Picture.room(3, 2).remaining());
  }
}
