package paddle.edge.demo.work;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** The folder of the bundles that the app has: those of its assets, and imported ones. */
public final class Shelf {
  private static final String STAMP = ".assets-";
  private static final long MOST_BYTES = 4L << 30;

  private final File folder;

  /** The shelf in a folder, which is made when something is put there. */
  public Shelf(File folder) {
    this.folder = folder;
  }

  /** The tree of files in the app's package. */
  public interface Assets {
    /** Names in a folder; empty for a file. */
    String[] list(String path) throws IOException;

    /** Opens a file. */
    InputStream open(String path) throws IOException;
  }

  /** The names of the bundles, sorted. */
  public List<String> names() {
    List<String> names = new ArrayList<>();
    for (File child : children()) {
      if (!child.getName().startsWith(".") && new File(child, BundleFiles.MANIFEST).isFile()) {
        names.add(child.getName());
      }
    }
    Collections.sort(names);
    return names;
  }

  /** The folder of a bundle, or null where there is none of that name. */
  public File find(String name) {
    return name != null && names().contains(name) ? new File(folder, name) : null;
  }

  /**
   * Removes what an earlier process left half-written, and copies the bundles of the assets, once
   * a version of the app.
   *
   * @param root the folder of the assets that holds the bundles
   * @param stamp changes whenever the app is installed anew
   * @throws Refused where a bundle in the assets is not whole
   */
  public void fill(Assets assets, String root, String stamp) throws IOException {
    BundleFiles.makeFolder(folder);
    for (File child : children()) {
      if (child.getName().startsWith(BundleFiles.PARTIAL)) {
        BundleFiles.delete(child);
      }
    }
    File mark = new File(folder, STAMP + stamp);
    if (mark.exists()) {
      return;
    }
    for (String name : assets.list(root)) {
      String source = root + "/" + name;
      if (assets.list(source).length == 0) {
        continue; // a file, such as a README
      }
      File partial = BundleFiles.partial(folder);
      try {
        copy(assets, source, partial);
        BundleFiles.move(partial, new File(folder, BundleFiles.verified(partial)));
      } finally {
        if (partial.exists()) {
          BundleFiles.delete(partial);
        }
      }
    }
    for (File child : children()) {
      if (child.getName().startsWith(STAMP)) {
        BundleFiles.delete(child);
      }
    }
    if (!mark.createNewFile()) {
      throw new IOException(mark + ": cannot be written");
    }
  }

  /**
   * Adds a zipped bundle; see {@link BundleZip#unpack}. Answers its name.
   */
  public String add(InputStream zip) throws IOException {
    return BundleZip.unpack(zip, folder, MOST_BYTES).getName();
  }

  /**
   * Removes a bundle, if there is one of that name. One of the app's package comes back when the
   * app is installed anew.
   */
  public void remove(String name) throws IOException {
    File bundle = find(name);
    if (bundle != null) {
      BundleFiles.remove(bundle);
    }
  }

  private static void copy(Assets assets, String source, File to) throws IOException {
    String[] names = assets.list(source);
    if (names.length == 0) {
      try (InputStream in = assets.open(source)) {
        BundleFiles.write(in, to, MOST_BYTES, source);
      }
      return;
    }
    BundleFiles.makeFolder(to);
    for (String name : names) {
      copy(assets, source + "/" + name, BundleFiles.inside(to, name));
    }
  }

  private File[] children() {
    File[] children = folder.listFiles();
    return children != null ? children : new File[0];
  }
}
