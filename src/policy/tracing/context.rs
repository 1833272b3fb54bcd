//! The context of a trace as it travels from hop to hop: W3C Trace Context (`traceparent`, `tracestate`), and whether a
//! request is recorded.
//!
//! Pure: chance comes in as numbers. `proxy::span` makes one for each request of a traced location.

use std::borrow::Cow;

use crate::policy::global::{Sampler, TracingDefaults};
use crate::wire::Fields;

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// Bytes of a `tracestate` that is passed on (W3C Trace Context section 3.3.1.5: at least 512).
const MAX_STATE: usize = 512;
/// Members of a `tracestate` (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;
const SAMPLED: u8 = 1;

/// The span of another hop, as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent<'f> {
    /// The trace.
    pub trace_id: [u8; 16],
    /// Its span that asks us.
    pub span_id: [u8; 8],
    /// It is recorded.
    pub sampled: bool,
    /// `tracestate`; empty for none.
    pub state: Cow<'f, [u8]>,
}

/// The span of this hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// Our span.
    pub span_id: [u8; 8],
    /// The span above ours.
    pub parent: Option<[u8; 8]>,
    /// Our span is recorded, and so should those below be.
    pub sampled: bool,
    /// `tracestate` as received; empty for none.
    pub state: Box<[u8]>,
    /// `traceparent` for the hop below.
    text: Box<str>,
}

impl<'f> Parent<'f> {
    /// Reads `traceparent` and `tracestate` (W3C Trace Context section 4.3); `None` without a usable `traceparent`.
    pub fn read(fields: &'f Fields) -> Option<Self> {
        let line = fields.get_only("traceparent").ok()??;
        let (start, rest) = line.split_at_checked(LENGTH)?;
        let mut parts = start.split(|byte| *byte == b'-');
        let version: [u8; 1] = hexadecimal(parts.next()?)?;
        let trace_id: [u8; 16] = hexadecimal(parts.next()?)?;
        let span_id: [u8; 8] = hexadecimal(parts.next()?)?;
        let flags: [u8; 1] = hexadecimal(parts.next()?)?;
        // Later versions may append; version 00 is exactly this long.
        let ends = rest.is_empty() || (version != [0] && rest.first() == Some(&b'-'));
        let sound = ends && parts.next().is_none() && version != [0xff];
        (sound && trace_id != [0; 16] && span_id != [0; 8]).then(|| Self {
            trace_id,
            span_id,
            sampled: flags.first().is_some_and(|flags| flags & SAMPLED != 0),
            state: state(fields),
        })
    }
}

/// Lower-case hexadecimal of exactly this many bytes.
fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (place, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *place = (digit(high)? << 4) | digit(low)?;
    }
    Some(out)
}

/// All lines of `tracestate` as one, or nothing when they are no list (section 4.3: then it is dropped, the trace stays).
fn state(fields: &Fields) -> Cow<'_, [u8]> {
    let mut lines = fields.get_all("tracestate");
    let joined = match (lines.next(), lines.next()) {
        (None, _) => return Cow::Borrowed(&[]),
        (Some(only), None) => Cow::Borrowed(only),
        (Some(_), Some(_)) => Cow::Owned(fields.get_all("tracestate").collect::<Vec<_>>().join(&b","[..])),
    };
    let member = |text: &[u8]| {
        let text = text.trim_ascii();
        text.is_empty() || (text.iter().position(|byte| *byte == b'=').is_some_and(|at| at > 0))
    };
    let visible = joined.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\t');
    let members = || joined.split(|byte| *byte == b',');
    let sound = visible
        && joined.len() <= MAX_STATE
        && members().count() <= MAX_MEMBERS
        && members().all(member)
        && members().any(|text| !text.trim_ascii().is_empty());
    if sound { joined } else { Cow::Borrowed(&[]) }
}

impl TraceContext {
    /// A span below `parent`, or the first of a new trace. `dice` are three random numbers.
    pub fn begin(parent: Option<&Parent<'_>>, defaults: &TracingDefaults, dice: [u64; 3]) -> Self {
        let [high, low, own] = dice;
        let trace_id = match parent {
            Some(parent) => parent.trace_id,
            // Ids of zeros mean "none".
            None => (u128::from(high) << 64 | u128::from(low.max(1))).to_be_bytes(),
        };
        let span_id = own.max(1).to_be_bytes();
        let sampled = match parent {
            Some(parent) if defaults.parent_based => parent.sampled,
            _ => defaults.sampler.takes(trace_id),
        };
        let mut text = String::with_capacity(LENGTH);
        text.push_str("00-");
        push_hexadecimal(&mut text, &trace_id);
        text.push('-');
        push_hexadecimal(&mut text, &span_id);
        text.push_str(if sampled { "-01" } else { "-00" });
        Self {
            trace_id,
            span_id,
            parent: parent.map(|parent| parent.span_id),
            sampled,
            state: parent.map(|parent| Box::from(&*parent.state)).unwrap_or_default(),
            text: text.into(),
        }
    }

    /// `traceparent`, and `$opentelemetry_context_traceparent`.
    pub fn traceparent(&self) -> &str {
        &self.text
    }

    /// `$opentelemetry_trace_id`: 32 digits.
    pub fn trace_id_text(&self) -> &str {
        self.text.get(3..35).unwrap_or_default()
    }

    /// `$opentelemetry_span_id`: 16 digits.
    pub fn span_id_text(&self) -> &str {
        self.text.get(36..52).unwrap_or_default()
    }
}

fn push_hexadecimal(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
}

impl Sampler {
    /// True when a trace of this id is recorded. A share of traces is told by the last eight bytes of the id, so that
    /// every hop with the same share decides the same.
    pub fn takes(self, trace_id: [u8; 16]) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            Self::Ratio(ratio) if ratio >= 1.0 => true,
            Self::Ratio(ratio) => {
                let [.., a, b, c, d, e, f, g, h] = trace_id;
                let id = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11;
                // 53 bits on both sides, which a float holds exactly.
                let bound = ratio.max(0.0) * (1_u64 << 53) as f64;
                (id as f64) < bound
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::fields;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn parent(traceparent: &str) -> bool {
        Parent::read(&fields(&[("traceparent", traceparent)])).is_some()
    }

    #[test]
    fn a_traceparent_is_read_strictly_and_later_versions_by_their_start() {
        for (text, expect) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), true),
            (format!("01-{TRACE}-{SPAN}-01"), true),
            (format!("01-{TRACE}-{SPAN}-01-more"), true),
            (format!("01-{TRACE}-{SPAN}-01more"), false),
            (format!("00-{TRACE}-{SPAN}-01-more"), false),
            (format!("ff-{TRACE}-{SPAN}-01"), false),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!("00-{TRACE}-{SPAN}-0"), false),
            (format!("00-{TRACE}-{SPAN}"), false),
            (format!("00_{TRACE}_{SPAN}_01"), false),
            (String::new(), false),
        ] {
            assert_eq!(parent(&text), expect, "{text}");
        }
        let line = format!("00-{TRACE}-{SPAN}-01");
        let twice = fields(&[("traceparent", &line), ("traceparent", &line)]);
        assert_eq!(Parent::read(&twice), None, "which of two is meant nobody knows");
    }

    #[test]
    fn a_tracestate_that_is_no_list_is_dropped_and_the_trace_stays() {
        let line = format!("00-{TRACE}-{SPAN}-01");
        let long = format!("a={}", "x".repeat(600));
        let many = vec!["a=b"; 33].join(",");
        for (lines, expect) in [
            (vec!["congo=t61rcWkgMzE"], "congo=t61rcWkgMzE"),
            (vec!["a=1", "b=2"], "a=1,b=2"),
            (vec!["a=1,,b=2"], "a=1,,b=2"),
            (vec!["nonsense"], ""),
            (vec!["=1"], ""),
            (vec![""], ""),
            (vec![long.as_str()], ""),
            (vec![many.as_str()], ""),
        ] {
            let mut all = vec![("traceparent", line.as_str())];
            all.extend(lines.iter().map(|state| ("tracestate", *state)));
            let fields = fields(&all);
            let parent = Parent::read(&fields).expect("a trace");
            assert_eq!(String::from_utf8_lossy(&parent.state), expect, "{lines:?}");
        }
    }

    #[test]
    fn a_span_goes_on_with_the_trace_of_its_parent_or_begins_one() {
        let defaults = TracingDefaults::default();
        let incoming =
            fields(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01")), ("tracestate", "congo=1")]);
        let parent = Parent::read(&incoming).expect("a trace");
        let below = TraceContext::begin(Some(&parent), &defaults, [1, 2, 3]);
        assert_eq!(below.traceparent(), format!("00-{TRACE}-0000000000000003-01"));
        assert_eq!((below.trace_id_text(), below.span_id_text()), (TRACE, "0000000000000003"));
        assert_eq!((below.parent, &*below.state), (Some(parent.span_id), &b"congo=1"[..]));
        let first = TraceContext::begin(None, &defaults, [1, 2, 3]);
        assert_eq!(first.traceparent(), "00-00000000000000010000000000000002-0000000000000003-01");
        assert_eq!((first.parent, first.state.len()), (None, 0));
        let zeros = TraceContext::begin(None, &defaults, [0; 3]);
        assert_ne!((zeros.trace_id, zeros.span_id), ([0; 16], [0; 8]), "zeros mean no id");
    }

    #[test]
    fn the_word_of_the_parent_counts_before_the_sampler_when_asked_to() {
        let parent =
            |sampled| Parent { trace_id: [1; 16], span_id: [2; 8], sampled, state: Cow::Borrowed(b"") };
        for (sampler, parent_based, from, expect) in [
            (Sampler::AlwaysOn, true, None, true),
            (Sampler::AlwaysOn, true, Some(false), false),
            (Sampler::AlwaysOn, false, Some(false), true),
            (Sampler::AlwaysOff, true, None, false),
            (Sampler::AlwaysOff, true, Some(true), true),
            (Sampler::AlwaysOff, false, Some(true), false),
        ] {
            let defaults = TracingDefaults { sampler, parent_based, ..TracingDefaults::default() };
            let parent = from.map(parent);
            let context = TraceContext::begin(parent.as_ref(), &defaults, [1, 2, 3]);
            assert_eq!(context.sampled, expect, "{sampler:?} {parent_based} {from:?}");
            assert_eq!(context.traceparent().ends_with("-01"), expect);
        }
    }

    #[test]
    fn a_share_of_traces_is_told_by_the_end_of_their_ids() {
        let id = |end: u64| {
            let mut id = [9; 16];
            id[8..].copy_from_slice(&end.to_be_bytes());
            id
        };
        for (ratio, end, expect) in [
            (0.0, 0, false),
            (1.0, u64::MAX, true),
            (2.0, u64::MAX, true),
            (-1.0, 0, false),
            (0.5, u64::MAX / 2 - 5000, true),
            (0.5, u64::MAX / 2 + 5000, false),
            (0.01, u64::MAX / 101, true),
            (0.01, u64::MAX / 99, false),
        ] {
            assert_eq!(Sampler::Ratio(ratio).takes(id(end)), expect, "{ratio} {end:x}");
        }
    }
}
