package paddle.edge.demo.work;

import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.util.HashSet;
import java.util.Locale;
import java.util.Set;
import java.util.zip.ZipEntry;
import java.util.zip.ZipException;
import java.util.zip.ZipInputStream;
import paddle.edge.demo.work.Refused.Reason;

/**
 * Takes a zipped bundle from elsewhere: nothing in it is believed.
 *
 * <p>The bundle may be the archive's root or its one folder. Links in an archive become plain
 * files, because only the contents of entries are written.
 */
public final class BundleZip {
  private static final int MOST_ENTRIES = 20_000;
  private static final int MOST_DEPTH = 8;
  private static final int MOST_NAME = 512;
  private static final long SPARE_BYTES = 64L << 20;

  private BundleZip() {}

  /**
   * Unpacks a bundle beside its place on the shelf, checks it, and gives it its name.
   *
   * @param zip the archive, which is read to the end of its last entry; the caller closes it
   * @param shelf the folder that bundles are in
   * @param mostBytes what it may hold unpacked, at most; less where less is free
   * @return the folder of the bundle, named after it and its manifest's hash
   * @throws Refused where the archive is not a whole bundle; then nothing is left
   */
  public static File unpack(InputStream zip, File shelf, long mostBytes) throws IOException {
    BundleFiles.makeFolder(shelf);
    long most = Math.min(mostBytes, shelf.getUsableSpace() - SPARE_BYTES);
    File partial = BundleFiles.partial(shelf);
    try {
      unpackInto(zip, partial, most);
      File root = rootOf(partial);
      File place = new File(shelf, BundleFiles.verified(root));
      BundleFiles.move(root, place);
      return place;
    } finally {
      if (partial.exists()) {
        BundleFiles.delete(partial);
      }
    }
  }

  private static void unpackInto(InputStream stream, File folder, long most) throws IOException {
    InputStream start = new BufferedInputStream(stream);
    start.mark(2);
    if (start.read() != 'P' || start.read() != 'K') {
      throw new Refused(Reason.NOT_A_ZIP, "");
    }
    start.reset();
    String name = "";
    try {
      ZipInputStream zip = new ZipInputStream(start);
      Set<String> seen = new HashSet<>();
      long left = most;
      for (ZipEntry entry = zip.getNextEntry(); entry != null; entry = zip.getNextEntry()) {
        name = entry.getName();
        if (seen.size() >= MOST_ENTRIES || name.length() > MOST_NAME) {
          throw new Refused(Reason.TOO_MANY, shortened(name));
        }
        String path = name.endsWith("/") ? name.substring(0, name.length() - 1) : name;
        File place = BundleFiles.inside(folder, path);
        if (path.split("/").length > MOST_DEPTH) {
          throw new Refused(Reason.TOO_MANY, name);
        }
        // Lower case: on some storage "A" and "a" are one file.
        if (!seen.add(path.toLowerCase(Locale.ROOT))) {
          throw new Refused(Reason.TWICE, name);
        }
        if (entry.isDirectory()) {
          makeFolder(place, name);
          continue;
        }
        makeFolder(place.getParentFile(), name);
        if (place.exists()) {
          throw new Refused(Reason.TWICE, name);
        }
        left -= BundleFiles.write(zip, place, left, name);
        zip.closeEntry();
      }
      if (seen.isEmpty()) {
        throw new Refused(Reason.NOT_A_ZIP, "");
      }
    } catch (ZipException | EOFException | IllegalArgumentException error) {
      // IllegalArgumentException: a name that is not in the archive's character set.
      throw new Refused(Reason.DAMAGED, name);
    }
  }

  private static void makeFolder(File folder, String name) throws IOException {
    if (!folder.isDirectory() && !folder.mkdirs()) {
      throw new Refused(Reason.TWICE, name); // one of its parents is a file
    }
  }

  private static String shortened(String name) {
    return name.length() > MOST_NAME ? name.substring(0, MOST_NAME) : name;
  }

  private static File rootOf(File folder) throws Refused {
    File found = null;
    if (new File(folder, BundleFiles.MANIFEST).isFile()) {
      found = folder;
    }
    File[] children = folder.listFiles();
    for (File child : children != null ? children : new File[0]) {
      if (new File(child, BundleFiles.MANIFEST).isFile()) {
        if (found != null) {
          throw new Refused(Reason.NO_BUNDLE, child.getName());
        }
        found = child;
      }
    }
    if (found == null) {
      throw new Refused(Reason.NO_BUNDLE, BundleFiles.MANIFEST);
    }
    return found;
  }
}
