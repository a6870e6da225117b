package paddle.edge.demo.work;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Locale;
import org.junit.jupiter.api.Test;

class FiguresTest {
  @Test
  void timesHaveThreeDigits() {
    assertEquals("0.123 ms", Figures.ms(0.12345, Locale.ROOT));
    assertEquals("1.23 ms", Figures.ms(1.2345, Locale.ROOT));
    assertEquals("12.3 ms", Figures.ms(12.345, Locale.ROOT));
    assertEquals("1235 ms", Figures.ms(1234.5678, Locale.ROOT));
    assertEquals("12,3 ms", Figures.ms(12.345, Locale.GERMANY));
    assertEquals("-", Figures.ms(Double.NaN, Locale.ROOT));
  }

  @Test
  void sharesArePercent() {
    assertEquals("0.0 %", Figures.percent(0.0004, Locale.ROOT));
    assertEquals("99.9 %", Figures.percent(0.9994, Locale.ROOT));
    assertEquals("100.0 %", Figures.percent(1, Locale.ROOT));
    assertEquals("-", Figures.percent(Double.NaN, Locale.ROOT));
    assertEquals("-", Figures.percent(Double.POSITIVE_INFINITY, Locale.ROOT));
  }

  @Test
  void verdictsSayWhatFailed() {
    String report =
        "{'passed': false, 'samples': 4, 'top1_agreement': 0.75, 'failures': ['one', 'two'],"
            + " 'outputs': [{'name': 'y', 'kind': 'tensor', 'cosine': 0.5, 'cosine_min': null,"
            + " 'worst': 'a', 'max_probability_diff': 0.000123, 'response': null}]}";
    assertEquals(
        "output 'y' (tensor): cosine 0.500000000, worst - for 'a', relative difference 1.2e-04, "
            + "response -\ntop-1 agreement 75.0 %\nFAILED: one\nFAILED: two\n"
            + "failed: cat (int8) on Linux aarch64, Paddle Lite v2.13-rc, 4 samples, p50 12.35 ms",
        Figures.verdict(
            "cat",
            "{'precision': 'int8', 'machine': 'Linux aarch64', 'engine': 'v2.13-rc'}",
            report,
            "{'latency': {'p50_ms': 12.3456}}"));
    String cpu =
        "{'precision': 'int8', 'machine': 'm', 'engine': 'v', 'cpu': {'parts': ['0xd05', '0xd0b'],"
            + " 'features': ['dot product', 'fp16'], 'engine_features': [], 'why': 'of that'}}";
    String said =
        Figures.verdict(
            "cat",
            cpu,
            "{'passed': true, 'samples': 1, 'top1_agreement': null, 'failures': [], 'outputs': []}",
            "{'latency': {'p50_ms': 1}}");
    assertEquals(
        "CPU part 0xd05, 0xd0b has dot product, fp16; the engine uses neither dot product nor fp16"
            + " (of that)\npassed: cat (int8) on m, Paddle Lite v, 1 samples, p50 1.00 ms",
        said);
    assertThrows(
        IllegalArgumentException.class, () -> Figures.verdict("cat", "{}", report, "{}"));
  }
}
