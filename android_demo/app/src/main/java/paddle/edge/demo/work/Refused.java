package paddle.edge.demo.work;

import java.io.IOException;

/** A file from elsewhere that is not taken, and why: the screen says it in the user's language. */
public final class Refused extends IOException {
  private static final long serialVersionUID = 1;

  private final Reason reason;
  private final String detail;

  Refused(Reason reason, String detail) {
    super(reason + ": " + detail);
    this.reason = reason;
    this.detail = detail;
  }

  /** A picture that cannot be decoded. */
  public static Refused picture(String name) {
    return new Refused(Reason.NO_PICTURE, name);
  }

  /** What is wrong with it. */
  public Reason reason() {
    return reason;
  }

  /** The file or field that is meant. */
  public String detail() {
    return detail;
  }

  /** What can be wrong with it. */
  public enum Reason {
    /** It is no zip archive. */
    NOT_A_ZIP,
    /** It is cut short or altered. */
    DAMAGED,
    /** A name in it is absolute, steps up, or holds characters that no name of a bundle has. */
    LEADS_OUT,
    /** Unpacked, it would be larger than allowed, or than what is free. */
    TOO_LARGE,
    /** It holds more files, or deeper folders, than a bundle can. */
    TOO_MANY,
    /** Two entries are for the same file. */
    TWICE,
    /** There is no bundle.json, or more than one. */
    NO_BUNDLE,
    /** The manifest is damaged. */
    MANIFEST,
    /** The manifest is of a format that this app does not read. */
    OTHER_FORMAT,
    /** A file is not what the manifest says. */
    CHECKSUM,
    /** A file that the manifest names is missing. */
    MISSING,
    /** A picture that cannot be decoded. */
    NO_PICTURE
  }
}
