package paddle.edge.demo;

import android.content.ContentProvider;
import android.content.ContentValues;
import android.content.Context;
import android.database.Cursor;
import android.database.MatrixCursor;
import android.net.Uri;
import android.os.ParcelFileDescriptor;
import android.provider.OpenableColumns;
import java.io.File;
import java.io.FileNotFoundException;
import java.util.Arrays;
import java.util.List;

/** Lets an app that the user shares a zipped Run with read that one file. */
public final class RunProvider extends ContentProvider {
  static final String TYPE = "application/zip";

  /**
   * The address of an archive in {@link App#runs}.
   */
  static Uri address(Context context, File zip) {
    return new Uri.Builder()
        .scheme("content")
        .authority(context.getPackageName() + ".runs")
        .appendPath(zip.getName())
        .build();
  }

  @Override
  public boolean onCreate() {
    return true;
  }

  @Override
  public String getType(Uri address) {
    return TYPE;
  }

  @Override
  public ParcelFileDescriptor openFile(Uri address, String mode) throws FileNotFoundException {
    if (!mode.equals("r")) {
      throw new SecurityException("runs are read only");
    }
    return ParcelFileDescriptor.open(find(address), ParcelFileDescriptor.MODE_READ_ONLY);
  }

  @Override
  public Cursor query(
      Uri address, String[] wanted, String selection, String[] arguments, String order) {
    File file;
    try {
      file = find(address);
    } catch (FileNotFoundException error) {
      return null;
    }
    String[] columns =
        wanted != null ? wanted : new String[] {OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE};
    Object[] row = new Object[columns.length];
    for (int i = 0; i < columns.length; i++) {
      if (columns[i].equals(OpenableColumns.DISPLAY_NAME)) {
        row[i] = file.getName();
      } else if (columns[i].equals(OpenableColumns.SIZE)) {
        row[i] = file.length();
      }
    }
    MatrixCursor cursor = new MatrixCursor(columns, 1);
    cursor.addRow(row);
    return cursor;
  }

  // Compared with the names that are there, so no path can be made of an address.
  private File find(Uri address) throws FileNotFoundException {
    File folder = ((App) getContext().getApplicationContext()).runs();
    List<String> parts = address.getPathSegments();
    String[] names = folder.list();
    if (parts.size() != 1
        || !parts.get(0).endsWith(".zip")
        || names == null
        || !Arrays.asList(names).contains(parts.get(0))) {
      throw new FileNotFoundException(address.toString());
    }
    return new File(folder, parts.get(0));
  }

  @Override
  public Uri insert(Uri address, ContentValues values) {
    throw new UnsupportedOperationException();
  }

  @Override
  public int delete(Uri address, String selection, String[] arguments) {
    throw new UnsupportedOperationException();
  }

  @Override
  public int update(Uri address, ContentValues values, String selection, String[] arguments) {
    throw new UnsupportedOperationException();
  }
}
