package paddle.edge.demo.work;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import paddle.edge.demo.work.Refused.Reason;

class BundleZipTest {
  private static final long ROOMY = 1 << 20;
  private static final byte[] MODEL = "what the engine reads".getBytes(StandardCharsets.UTF_8);

  @TempDir Path folder;
  private File shelf;

  @BeforeEach
  void makeShelf() {
    shelf = folder.resolve("shelf").toFile();
  }

  /** The files of a bundle, by name. */
  static Map<String, byte[]> bundle(String prefix) {
    Map<String, byte[]> files = new LinkedHashMap<>();
    files.put(prefix + "bundle.json", manifest("model.arm.nb", 1));
    files.put(prefix + "model.arm.nb", MODEL);
    files.put(prefix + "samples/0000.0.npy", new byte[] {1, 2, 3});
    return files;
  }

  static byte[] manifest(String model, int format) {
    StringBuilder hash = new StringBuilder();
    try {
      for (byte b : MessageDigest.getInstance("SHA-256").digest(MODEL)) {
        hash.append(String.format("%02x", b));
      }
    } catch (java.security.NoSuchAlgorithmException error) {
      throw new AssertionError(error);
    }
    return text(
        "{'format': " + format + ", 'name': 'my/cat', 'targets': {'arm': {'file': '" + model
            + "', 'sha256': '" + hash + "', 'bytes': " + MODEL.length + "}}, "
            + "'samples': [{'feeds': {'x': 'samples/0000.0.npy'}}]}");
  }

  static byte[] text(String text) {
    return text.replace('\'', '"').getBytes(StandardCharsets.UTF_8);
  }

  static byte[] zip(Map<String, byte[]> files) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ZipOutputStream zip = new ZipOutputStream(bytes)) {
      for (Map.Entry<String, byte[]> file : files.entrySet()) {
        zip.putNextEntry(new ZipEntry(file.getKey()));
        zip.write(file.getValue());
        zip.closeEntry();
      }
    }
    return bytes.toByteArray();
  }

  private static byte[] with(String name, byte[] bytes) throws IOException {
    Map<String, byte[]> files = new LinkedHashMap<>();
    files.put(name, bytes); // first, so that it is met before the bundle is whole
    files.putAll(bundle(""));
    files.put(name, bytes);
    return zip(files);
  }

  private static byte[] without(String name) throws IOException {
    Map<String, byte[]> files = bundle("");
    assertNotNull(files.remove(name));
    return zip(files);
  }

  private static byte[] patched(byte[] bytes, int at, int mask) {
    byte[] copy = bytes.clone();
    copy[at] ^= (byte) mask;
    return copy;
  }

  private static int find(byte[] bytes, byte[] part) {
    for (int at = 0; at <= bytes.length - part.length; at++) {
      if (Arrays.equals(Arrays.copyOfRange(bytes, at, at + part.length), part)) {
        return at;
      }
    }
    throw new AssertionError("not there");
  }

  /** The archive of a bundle with one file stored, not deflated, so that its bytes can be found. */
  private static byte[] stored() throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ZipOutputStream zip = new ZipOutputStream(bytes)) {
      zip.setMethod(ZipOutputStream.DEFLATED);
      zip.setLevel(0);
      for (Map.Entry<String, byte[]> file : bundle("").entrySet()) {
        zip.putNextEntry(new ZipEntry(file.getKey()));
        zip.write(file.getValue());
      }
    }
    return bytes.toByteArray();
  }

  private static byte[] renamed(String from, String to) throws IOException {
    // Of the same length: in the local header and in the directory.
    byte[] bytes = with(from, new byte[1]);
    String all = new String(bytes, StandardCharsets.ISO_8859_1);
    return all.replace(from, to).getBytes(StandardCharsets.ISO_8859_1);
  }

  private static byte[] many() throws IOException {
    Map<String, byte[]> files = bundle("");
    for (int i = 0; i < 20_000; i++) {
      files.put("f" + i, new byte[0]);
    }
    return zip(files);
  }

  private static byte[] two() throws IOException {
    Map<String, byte[]> files = bundle("a/");
    files.putAll(bundle("b/"));
    return zip(files);
  }

  private static byte[] replaced(String name, byte[] bytes) throws IOException {
    Map<String, byte[]> files = bundle("");
    assertNotNull(files.put(name, bytes));
    return zip(files);
  }

  static Stream<Arguments> hostile() throws IOException {
    byte[] whole = zip(bundle(""));
    byte[] stored = stored();
    byte[] one = new byte[1];
    byte[] other = patched(MODEL, 0, 1);
    return Stream.of(
        Arguments.of("steps up", Reason.LEADS_OUT, with("../escaped", one)),
        Arguments.of("steps up inside", Reason.LEADS_OUT, with("a/../../escaped", one)),
        Arguments.of("absolute", Reason.LEADS_OUT, with("/tmp/escaped", one)),
        Arguments.of("backslashes", Reason.LEADS_OUT, with("..\\escaped", one)),
        Arguments.of("an empty step", Reason.LEADS_OUT, with("a//b", one)),
        Arguments.of("a control character", Reason.LEADS_OUT, with("a\nb", one)),
        Arguments.of("a zero byte", Reason.LEADS_OUT, with("a\0b", one)),
        Arguments.of("a bomb", Reason.TOO_LARGE, with("zeros", new byte[(int) ROOMY])),
        Arguments.of("too many files", Reason.TOO_MANY, many()),
        Arguments.of("too deep", Reason.TOO_MANY, with("a/a/a/a/a/a/a/a/a", one)),
        Arguments.of(
            "a long name",
            Reason.TOO_MANY,
            with(new String(new char[600]).replace('\0', 'a'), one)),
        Arguments.of("the same file twice", Reason.TWICE, renamed("BUNDLE.json", "bundle.json")),
        Arguments.of("twice but for the case", Reason.TWICE, with("Bundle.JSON", one)),
        Arguments.of("a file as a folder", Reason.TWICE, with("samples", one)),
        Arguments.of("cut short", Reason.DAMAGED, Arrays.copyOf(whole, whole.length / 2)),
        Arguments.of(
            "altered", Reason.DAMAGED, patched(stored, find(stored, MODEL), 1)),
        Arguments.of("encrypted", Reason.DAMAGED, patched(whole, 6, 1)),
        Arguments.of("not a zip", Reason.NOT_A_ZIP, text("<html>no such page</html>")),
        Arguments.of("nothing", Reason.NOT_A_ZIP, new byte[0]),
        Arguments.of("an empty zip", Reason.NOT_A_ZIP, zip(new LinkedHashMap<>())),
        Arguments.of("no manifest", Reason.NO_BUNDLE, without("bundle.json")),
        Arguments.of("two bundles", Reason.NO_BUNDLE, two()),
        Arguments.of("not JSON", Reason.MANIFEST, replaced("bundle.json", text("{'format': 1"))),
        Arguments.of(
            "fields missing", Reason.MANIFEST, replaced("bundle.json", text("{'format': 1}"))),
        Arguments.of(
            "JSON too deep",
            Reason.MANIFEST,
            replaced("bundle.json", new String(new char[100_000]).replace('\0', '[').getBytes())),
        Arguments.of(
            "another format",
            Reason.OTHER_FORMAT,
            replaced("bundle.json", manifest("model.arm.nb", 2))),
        Arguments.of(
            "a manifest that leads out",
            Reason.LEADS_OUT,
            replaced("bundle.json", manifest("../shelf/model.arm.nb", 1))),
        Arguments.of("no model", Reason.MISSING, without("model.arm.nb")),
        Arguments.of("no sample", Reason.MISSING, without("samples/0000.0.npy")),
        Arguments.of("another model", Reason.CHECKSUM, replaced("model.arm.nb", other)),
        Arguments.of("a longer model", Reason.CHECKSUM, replaced("model.arm.nb", new byte[99])));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("hostile")
  void refusesHostileArchives(String name, Reason reason, byte[] archive) throws IOException {
    InputStream stream = new ByteArrayInputStream(archive);
    Refused refused =
        assertThrows(Refused.class, () -> BundleZip.unpack(stream, shelf, ROOMY));
    assertEquals(reason, refused.reason(), refused.getMessage());
    assertArrayEquals(new String[0], shelf.list(), "something is left");
    assertArrayEquals(new String[] {"shelf"}, folder.toFile().list(), "something escaped");
  }

  @Test
  void takesBundlesFromTheRootOrOneFolder() throws IOException {
    File root = BundleZip.unpack(new ByteArrayInputStream(zip(bundle(""))), shelf, ROOMY);
    assertTrue(root.getName().matches("my_cat-[0-9a-f]{8}"), root.getName());
    assertArrayEquals(MODEL, Files.readAllBytes(root.toPath().resolve("model.arm.nb")));
    Files.write(root.toPath().resolve("model.arm.nb"), new byte[1]); // damaged later
    Map<String, byte[]> files = bundle("cat.bundle/");
    files.put("__MACOSX/._cat.bundle", new byte[1]);
    File again = BundleZip.unpack(new ByteArrayInputStream(zip(files)), shelf, ROOMY);
    assertEquals(root, again);
    assertArrayEquals(MODEL, Files.readAllBytes(root.toPath().resolve("model.arm.nb")));
    assertArrayEquals(new String[] {root.getName()}, shelf.list());
  }

  @Test
  void modelsForAnotherCpuMayBeMissing() throws IOException {
    Map<String, byte[]> files = bundle("");
    String more = "'arm': {'file': 'model.x86.nb', 'sha256': '', 'bytes': 7}, 'x86'";
    String manifest = new String(files.get("bundle.json"), StandardCharsets.UTF_8);
    files.put("bundle.json", text(manifest.replace("\"arm\"", more)));
    assertNotNull(BundleZip.unpack(new ByteArrayInputStream(zip(files)), shelf, ROOMY));
  }

  @Test
  void theShelfIsFilledOncePerVersion() throws IOException {
    Map<String, byte[]> files = bundle("bundles/cat/");
    files.put("bundles/README.md", new byte[1]);
    Tree assets = new Tree(files);
    Shelf here = new Shelf(shelf);
    assertEquals(new ArrayList<>(), here.names());
    Files.createDirectories(shelf.toPath().resolve(".partial-x/of/an/earlier/process"));
    here.fill(assets, "bundles", "1");
    List<String> names = here.names();
    assertEquals(1, names.size());
    assertTrue(here.find(names.get(0)).isDirectory());
    assertNull(here.find("../" + names.get(0)));
    assertNull(here.find(null));
    final int opened = assets.opened;
    here.fill(assets, "bundles", "1");
    assertEquals(opened, assets.opened);
    here.fill(assets, "bundles", "2");
    assertEquals(2 * opened, assets.opened);
    assertEquals(names, here.names());
    assertEquals(2, shelf.list().length); // the bundle and the stamp
    files.put("bundles/cat/model.arm.nb", new byte[3]);
    assertThrows(Refused.class, () -> here.fill(assets, "bundles", "3"));
    assertEquals(names, here.names());
    assertEquals(names.get(0), here.add(new ByteArrayInputStream(zip(bundle("")))));
  }

  @Test
  void runsAreSentAsOneFile() throws IOException {
    Path run = Files.createDirectories(folder.resolve("cat.run/inner"));
    Files.write(run.resolve("x.npy"), new byte[] {1, 2});
    Files.write(run.resolveSibling("run.json"), text("{}"));
    File zip = folder.resolve("cat.zip").toFile();
    RunZip.write(folder.resolve("cat.run").toFile(), zip);
    try (ZipFile opened = new ZipFile(zip)) {
      assertEquals(2, opened.size());
      assertEquals(2, opened.getEntry("cat.run/inner/x.npy").getSize());
      assertEquals(2, opened.getEntry("cat.run/run.json").getSize());
    }
    assertThrows(
        IOException.class,
        () -> RunZip.write(folder.resolve("cat.run").toFile(), new File("no such folder/x.zip")));
  }

  @Test
  void linksAreRemovedAndNotFollowed() throws IOException {
    Path outside = Files.createDirectories(folder.resolve("outside"));
    Files.write(outside.resolve("mine.txt"), new byte[1]);
    Path inside = Files.createDirectories(folder.resolve("inside"));
    Files.createSymbolicLink(inside.resolve("link"), outside);
    BundleFiles.delete(inside.toFile());
    assertTrue(Files.exists(outside.resolve("mine.txt")));
    assertTrue(Files.notExists(inside));
  }

  /** Assets in memory. */
  static final class Tree implements Shelf.Assets {
    private final Map<String, byte[]> files;
    private int opened;

    Tree(Map<String, byte[]> files) {
      this.files = files;
    }

    @Override
    public String[] list(String path) {
      return files.keySet().stream()
          .filter(name -> name.startsWith(path + "/"))
          .map(name -> name.substring(path.length() + 1).split("/")[0])
          .distinct()
          .toArray(String[]::new);
    }

    @Override
    public InputStream open(String path) throws IOException {
      opened++;
      if (!files.containsKey(path)) {
        throw new FileNotFoundException(path);
      }
      return new ByteArrayInputStream(files.get(path));
    }
  }
}
