package paddle.edge.demo;

import android.content.ContentResolver;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.media.ExifInterface;
import android.net.Uri;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import paddle.edge.demo.work.Picture;
import paddle.edge.demo.work.Refused;

/**
 * Pictures that the user chose. They are copied first: the right to read them ends with the process
 * that was given it.
 */
final class PictureFile {
  private static final String PREFIX = "picture-";
  private static final int BLOCK_BYTES = 1 << 16;
  private static final long MOST_BYTES = 256L << 20;

  private PictureFile() {}

  /**
   * A new place in a folder, for {@link #copy}.
   */
  static File place(File folder) {
    return new File(folder, PREFIX + System.currentTimeMillis());
  }

  /** Copies what an address gives to a place, and removes earlier pictures there. */
  static void copy(ContentResolver resolver, Uri from, File to) throws IOException {
    File[] files = to.getParentFile().listFiles();
    for (File file : files != null ? files : new File[0]) {
      if (file.getName().startsWith(PREFIX) && !file.equals(to) && !file.delete()) {
        throw new IOException(file + ": cannot be removed");
      }
    }
    try (InputStream in = open(resolver, from);
        OutputStream out = new FileOutputStream(to)) {
      byte[] block = new byte[BLOCK_BYTES];
      long total = 0;
      for (int count = in.read(block); count >= 0; count = in.read(block)) {
        total += count;
        if (total > MOST_BYTES) {
          throw new IOException(from + ": is larger than any picture");
        }
        out.write(block, 0, count);
      }
    }
  }

  /** Opens an address; SecurityException and null become an IOException. */
  static InputStream open(ContentResolver resolver, Uri from) throws IOException {
    try {
      InputStream in = resolver.openInputStream(from);
      if (in == null) {
        throw new FileNotFoundException(from.toString());
      }
      return in;
    } catch (SecurityException error) {
      throw new IOException(error.getMessage(), error);
    }
  }

  /** The pixels of a file, upright, with colours as they are stored: not multiplied by alpha. */
  static Picture read(File file) throws IOException {
    return upright(decode(file, false, Integer.MAX_VALUE), file);
  }

  /** The picture of a file for the screen, upright, at least as wide as wished, less than twice. */
  static Bitmap show(File file, int width) throws IOException {
    return bitmap(upright(decode(file, true, width), file));
  }

  private static Picture upright(Bitmap bitmap, File file) {
    ByteBuffer pixels = ByteBuffer.allocateDirect(bitmap.getByteCount());
    bitmap.copyPixelsToBuffer(pixels.order(ByteOrder.nativeOrder()));
    pixels.rewind();
    Picture stored =
        new Picture(pixels, bitmap.getWidth(), bitmap.getHeight(), bitmap.getRowBytes());
    bitmap.recycle();
    return stored.upright(orientation(file));
  }

  /** A picture without gaps between its rows, for the screen. */
  static Bitmap bitmap(Picture picture) {
    Bitmap bitmap =
        Bitmap.createBitmap(picture.width(), picture.height(), Bitmap.Config.ARGB_8888);
    bitmap.copyPixelsFromBuffer(picture.pixels().duplicate());
    return bitmap;
  }

  private static Bitmap decode(File file, boolean multiplied, int width) throws IOException {
    BitmapFactory.Options options = new BitmapFactory.Options();
    options.inJustDecodeBounds = true;
    BitmapFactory.decodeFile(file.getPath(), options);
    if (options.outWidth < 1 || options.outHeight < 1) {
      throw Refused.picture(file.getName());
    }
    options.inJustDecodeBounds = false;
    options.inPreferredConfig = Bitmap.Config.ARGB_8888;
    options.inPremultiplied = multiplied;
    options.inSampleSize = Picture.sampling(options.outWidth, options.outHeight);
    while (options.outWidth / options.inSampleSize / 2 >= width) {
      options.inSampleSize *= 2;
    }
    Bitmap bitmap = BitmapFactory.decodeFile(file.getPath(), options);
    if (bitmap == null || bitmap.getConfig() != Bitmap.Config.ARGB_8888) {
      throw Refused.picture(file.getName());
    }
    return bitmap;
  }

  private static int orientation(File file) {
    try {
      return new ExifInterface(file.getPath())
          .getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL);
    } catch (IOException error) {
      return ExifInterface.ORIENTATION_NORMAL; // no JPEG: before Android 7 only these have it
    }
  }
}
