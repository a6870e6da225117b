package paddle.edge.demo.work;

import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;

/** A Run folder as one file, to be sent: unzipped, it is what paddle-edge compare reads. */
public final class RunZip {
  private RunZip() {}

  /**
   * Writes {@code NAME/...} of a folder called NAME into an archive, whole or not at all.
   */
  public static void write(File run, File zip) throws IOException {
    File partial = new File(zip.getParentFile(), BundleFiles.PARTIAL + zip.getName());
    try {
      try (ZipOutputStream out = new ZipOutputStream(new FileOutputStream(partial))) {
        for (String name : BundleFiles.list(run)) {
          out.putNextEntry(new ZipEntry(run.getName() + "/" + name));
          try (InputStream in = new FileInputStream(new File(run, name))) {
            BundleFiles.copy(in, out, Long.MAX_VALUE, name);
          }
          out.closeEntry();
        }
      }
      if (!partial.renameTo(zip)) {
        throw new IOException(zip + ": cannot be written");
      }
    } finally {
      if (partial.exists()) {
        BundleFiles.delete(partial);
      }
    }
  }
}
