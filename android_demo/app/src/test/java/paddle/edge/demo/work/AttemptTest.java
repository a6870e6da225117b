package paddle.edge.demo.work;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What is opened in two steps: the camera's reader and the camera. */
class AttemptTest {
  private final List<String> done = new ArrayList<>();
  private String makes = "reader";
  private IOException fault;
  private RuntimeException refusal;
  private final Attempt<String, IOException> attempt = new Attempt<>(new Told());

  /** Steps that are written down. */
  private final class Told implements Attempt.Steps<String, IOException> {
    @Override
    public String make() {
      done.add("make");
      return makes;
    }

    @Override
    public void start(String made) throws IOException {
      done.add("start " + made);
      if (fault != null) {
        throw fault;
      }
      if (refusal != null) {
        throw refusal;
      }
    }

    @Override
    public void release(String made) {
      done.add("release " + made);
    }
  }

  private void did(String... steps) {
    assertEquals(Arrays.asList(steps), done);
    done.clear();
  }

  @Test
  void itIsOpenOnceAtTime() throws IOException {
    assertTrue(attempt.open());
    assertTrue(attempt.open());
    did("make", "start reader");
    assertEquals("reader", attempt.held());
    attempt.close();
    attempt.close();
    did("release reader");
    assertNull(attempt.held());
    makes = null;
    assertFalse(attempt.open());
    did("make");
  }

  @Test
  void afterRefusalsItCanBeTriedAgain() throws IOException {
    refusal = new SecurityException("a policy of the device");
    assertThrows(SecurityException.class, attempt::open);
    did("make", "start reader", "release reader");
    assertNull(attempt.held());
    refusal = null;
    fault = new IOException("in use");
    assertThrows(IOException.class, attempt::open);
    did("make", "start reader", "release reader");
    fault = null;
    assertTrue(attempt.open());
    did("make", "start reader");
  }
}
