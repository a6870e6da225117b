package paddle.edge.demo.work;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.UUID;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;
import paddle.edge.demo.work.Refused.Reason;

/** The files of bundles: verified against the manifest, written beside their place and renamed. */
final class BundleFiles {
  static final String MANIFEST = "bundle.json";
  static final String PARTIAL = ".partial-";

  private static final int FORMAT = 1;
  private static final int MOST_MANIFEST_BYTES = 64 << 20;
  private static final int BLOCK_BYTES = 1 << 16;
  private static final int HASH_DIGITS = 8;
  private static final int MOST_NAME = 64;

  private BundleFiles() {}

  /**
   * Checks an unpacked bundle against its manifest: the files that it names, their sizes and
   * checksums. Of several models only those for other CPUs may be missing, not all.
   *
   * @return the name for its folder: the bundle's, and the first digits of the manifest's hash
   * @throws Refused where something is missing or not what the manifest says
   */
  static String verified(File folder) throws IOException {
    File file = new File(folder, MANIFEST);
    if (!file.isFile()) {
      throw new Refused(Reason.NO_BUNDLE, folder.getName());
    }
    if (file.length() > MOST_MANIFEST_BYTES) {
      throw new Refused(Reason.TOO_LARGE, MANIFEST);
    }
    byte[] bytes = read(file);
    String name;
    try {
      JSONObject manifest = new JSONObject(new String(bytes, StandardCharsets.UTF_8));
      if (manifest.getInt("format") != FORMAT) {
        throw new Refused(Reason.OTHER_FORMAT, String.valueOf(manifest.getInt("format")));
      }
      name = manifest.getString("name");
      checkTargets(folder, manifest.getJSONObject("targets"));
      checkSamples(folder, manifest.getJSONArray("samples"));
    } catch (JSONException | StackOverflowError error) {
      throw new Refused(Reason.MANIFEST, String.valueOf(error.getMessage()));
    }
    StringBuilder safe = new StringBuilder();
    for (int i = 0; i < name.length() && safe.length() < MOST_NAME; i++) {
      char c = name.charAt(i);
      safe.append(Character.isLetterOrDigit(c) || c == '-' || c == '_' ? c : '_');
    }
    return safe + "-" + hex(sha256().digest(bytes)).substring(0, HASH_DIGITS);
  }

  private static void checkTargets(File folder, JSONObject targets)
      throws IOException, JSONException {
    int found = 0;
    for (Iterator<String> names = targets.keys(); names.hasNext(); ) {
      JSONObject target = targets.getJSONObject(names.next());
      String name = target.getString("file");
      File file = inside(folder, name);
      if (!file.isFile()) {
        continue;
      }
      found++;
      if (file.length() != target.getLong("bytes")
          || !hash(file).equals(target.getString("sha256").toLowerCase(Locale.ROOT))) {
        throw new Refused(Reason.CHECKSUM, name);
      }
    }
    if (found == 0) {
      throw new Refused(Reason.MISSING, "*.nb");
    }
  }

  private static void checkSamples(File folder, JSONArray samples)
      throws IOException, JSONException {
    for (int i = 0; i < samples.length(); i++) {
      JSONObject feeds = samples.getJSONObject(i).getJSONObject("feeds");
      for (Iterator<String> names = feeds.keys(); names.hasNext(); ) {
        String name = feeds.getString(names.next());
        if (!inside(folder, name).isFile()) {
          throw new Refused(Reason.MISSING, name);
        }
      }
    }
  }

  /**
   * A file below a folder.
   *
   * @throws Refused where the name is not relative, steps up, or would not be the same everywhere
   */
  static File inside(File folder, String name) throws Refused {
    for (String part : name.split("/", -1)) {
      if (part.isEmpty() || part.equals(".") || part.equals("..")) {
        throw new Refused(Reason.LEADS_OUT, name);
      }
    }
    for (int i = 0; i < name.length(); i++) {
      if (name.charAt(i) < ' ' || name.charAt(i) == '\\' || name.charAt(i) == 0x7f) {
        throw new Refused(Reason.LEADS_OUT, name);
      }
    }
    return new File(folder, name);
  }

  /**
   * A new folder beside the final places, which no list shows; {@link #move} gives it a name.
   */
  static File partial(File shelf) throws IOException {
    File folder = new File(shelf, PARTIAL + UUID.randomUUID());
    makeFolder(folder);
    return folder;
  }

  /** Removes a folder as a whole: where the process ends meanwhile, no part of it is found. */
  static void remove(File folder) throws IOException {
    File old = new File(folder.getParentFile(), PARTIAL + UUID.randomUUID());
    if (!folder.renameTo(old)) {
      throw new IOException(folder + ": cannot be removed");
    }
    delete(old);
  }

  /** Gives a folder its final place; what was there before is removed. */
  static void move(File from, File to) throws IOException {
    File old = new File(to.getParentFile(), PARTIAL + UUID.randomUUID());
    boolean replaces = to.exists();
    if (replaces && !to.renameTo(old)) {
      throw new IOException(to + ": cannot be replaced");
    }
    if (!from.renameTo(to)) {
      if (replaces && !old.renameTo(to)) {
        throw new IOException(to + ": cannot be put back");
      }
      throw new IOException(to + ": cannot be written");
    }
    if (replaces) {
      delete(old);
    }
  }

  static void makeFolder(File folder) throws IOException {
    if (!folder.isDirectory() && !folder.mkdirs()) {
      throw new IOException(folder + ": cannot be made");
    }
  }

  /** Removes a file or folder as far as it can be; links are not followed. */
  static void delete(File file) throws IOException {
    File parent = file.getParentFile();
    File real = parent == null ? file : new File(parent.getCanonicalFile(), file.getName());
    File[] children = real.getCanonicalFile().equals(real) ? real.listFiles() : null;
    if (children != null) {
      for (File child : children) {
        delete(child);
      }
    }
    if (!file.delete() && file.exists()) {
      throw new IOException(file + ": cannot be removed");
    }
  }

  /** The files below a folder, as paths relative to it, sorted. */
  static List<String> list(File folder) {
    List<String> found = new ArrayList<>();
    collect(folder, "", found);
    java.util.Collections.sort(found);
    return found;
  }

  private static void collect(File folder, String prefix, List<String> found) {
    File[] children = folder.listFiles();
    if (children == null) {
      return;
    }
    for (File child : children) {
      if (child.isDirectory()) {
        collect(child, prefix + child.getName() + "/", found);
      } else {
        found.add(prefix + child.getName());
      }
    }
  }

  /**
   * Copies a stream to its end.
   *
   * @throws Refused where it holds more than {@code most} bytes
   */
  static long copy(InputStream from, OutputStream to, long most, String name) throws IOException {
    byte[] block = new byte[BLOCK_BYTES];
    long total = 0;
    for (int count = from.read(block); count >= 0; count = from.read(block)) {
      total += count;
      if (total > most) {
        throw new Refused(Reason.TOO_LARGE, name);
      }
      to.write(block, 0, count);
    }
    return total;
  }

  /** Writes a stream to a new file. */
  static long write(InputStream from, File to, long most, String name) throws IOException {
    try (OutputStream out = new FileOutputStream(to)) {
      return copy(from, out, most, name);
    }
  }

  static byte[] read(File file) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (InputStream in = new FileInputStream(file)) {
      copy(in, bytes, MOST_MANIFEST_BYTES, file.getName());
    }
    return bytes.toByteArray();
  }

  private static String hash(File file) throws IOException {
    MessageDigest digest = sha256();
    try (InputStream in = new DigestInputStream(new FileInputStream(file), digest)) {
      byte[] block = new byte[BLOCK_BYTES];
      while (in.read(block) >= 0) {
        continue;
      }
    }
    return hex(digest.digest());
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException error) {
      throw new AssertionError("every Java has SHA-256", error);
    }
  }

  private static String hex(byte[] bytes) {
    StringBuilder text = new StringBuilder();
    for (byte b : bytes) {
      text.append(String.format(Locale.ROOT, "%02x", b));
    }
    return text.toString();
  }
}
