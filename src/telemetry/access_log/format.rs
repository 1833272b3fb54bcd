//! A log format, compiled: the ConfigMap's `log-format-upstream`, or the JSON object of `--log-format json`.

use super::clock::Clock;
use super::escape::{Escape, LINE_MAX, Out};
use super::object;
use super::template::{Problem, Segment, parse};
use super::variable;
use crate::telemetry::record::Record;
use crate::variable::Variable;

/// Default of `log-format-upstream` in ingress-nginx.
pub const DEFAULT_FORMAT: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
    \"$http_referer\" \"$http_user_agent\" $request_length $request_time [$proxy_upstream_name] \
    [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time \
    $upstream_status $req_id";

/// How a record becomes a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Layout);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    Template { segments: Vec<Segment<Option<Variable>>>, escape: Escape, budget: usize, wants: Wants },
    Object,
}

/// What must be kept of a request because a variable shows it: every request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Wants {
    response_fields: bool,
    upstream_fields: bool,
    own: bool,
}

impl Wants {
    fn of(segments: &[Segment<Option<Variable>>]) -> Self {
        use Variable::{Own, ResponseField, UpstreamCookie, UpstreamField};
        let mut wants = Self::default();
        for segment in segments {
            let Segment::Variable(Some(variable)) = segment else { continue };
            // A map may look at any field.
            let own = matches!(variable, Own(_));
            wants.own |= own;
            wants.response_fields |= own || matches!(variable, ResponseField(_));
            wants.upstream_fields |= own || matches!(variable, UpstreamField(_) | UpstreamCookie(_));
        }
        wants
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::compile(DEFAULT_FORMAT, Escape::Default, |_| false).0
    }
}

impl Format {
    /// Compiles `log-format-upstream`. Always gives a usable format. `own` tells the variables that the configuration
    /// defines itself.
    pub fn compile(text: &str, escape: Escape, own: impl Fn(&str) -> bool) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let segments = parse(text, |name| {
            let variable = Variable::parse(name).or_else(|| own(name).then(|| Variable::Own(name.into())));
            if variable.is_none() {
                problems.push(Problem::Unknown { name: name.to_owned() });
            } else if variable.as_ref().is_some_and(Variable::is_sensitive) {
                problems.push(Problem::Sensitive { name: name.to_owned() });
            }
            variable
        });
        let budget = budget(&segments);
        let wants = Wants::of(&segments);
        (Self(Layout::Template { segments, escape, budget, wants }), problems)
    }

    /// One JSON object per line with fixed keys (`docs/access-log.md`).
    pub const fn json() -> Self {
        Self(Layout::Object)
    }

    /// True when a variable shows a response field.
    pub fn wants_response_fields(&self) -> bool {
        self.wants().response_fields
    }

    /// True when a variable shows a field of the backend's own answer.
    pub fn wants_upstream_fields(&self) -> bool {
        self.wants().upstream_fields
    }

    /// True when a variable of the configuration's own is shown.
    pub fn wants_own(&self) -> bool {
        self.wants().own
    }

    fn wants(&self) -> Wants {
        match &self.0 {
            Layout::Template { wants, .. } => *wants,
            Layout::Object => Wants::default(),
        }
    }

    /// Appends the line for `record`, without a line feed.
    pub fn render(&self, record: &Record<'_>, clock: &mut Clock, buffer: &mut Vec<u8>) {
        match &self.0 {
            Layout::Template { segments, escape, budget, .. } => {
                let mut out = Out::new(buffer, *escape, *budget);
                for segment in segments {
                    match segment {
                        Segment::Literal(text) => out.literal(text),
                        Segment::Variable(variable) => {
                            out.begin_field();
                            let shown = variable
                                .as_ref()
                                .is_some_and(|variable| variable::write(variable, record, clock, &mut out));
                            if !shown {
                                out.missing();
                            }
                        }
                    }
                }
            }
            Layout::Object => object::render(record, clock, buffer),
        }
    }
}

/// What the literals of a format leave of a line: they are the operator's and always written, so that a JSON format
/// stays JSON when values are cut.
pub(super) fn budget<V>(segments: &[Segment<V>]) -> usize {
    let literals = segments.iter().map(|segment| match segment {
        Segment::Literal(text) => text.len(),
        Segment::Variable(_) => 0,
    });
    LINE_MAX.saturating_sub(literals.sum())
}
