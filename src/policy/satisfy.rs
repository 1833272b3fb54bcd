//! `satisfy`: how address lists, passwords and external authentication go together, as nginx's `satisfy` directive.

use super::annotation::{Reader, Risk, Scope, Spec};
use crate::reply::LocalReply;

const SATISFY: Spec = Spec::new("satisfy", Scope::Location, Risk::Low)
    .values("all", "any")
    .doc("`all`: every check must pass; `any`: one that passes is enough.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[SATISFY];

/// How checks go together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Satisfy {
    /// The first refusal counts.
    #[default]
    All,
    /// The first that admits counts.
    Any,
}

/// What one check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request is admitted.
    Admit,
    /// The check has no opinion.
    Abstain,
    /// The request is refused with this answer.
    Refuse(LocalReply),
}

/// What the checks so far say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    refusal: Option<LocalReply>,
    admitted: bool,
}

impl Tally {
    /// Adds a verdict; false when no further check can change the outcome. A refusal that is no 401 and no 403 (the
    /// check itself failed) counts also where one admission would be enough, so nothing opens by a failure.
    pub fn add(&mut self, satisfy: Satisfy, verdict: Verdict) -> bool {
        match (satisfy, verdict) {
            (_, Verdict::Abstain) => true,
            (Satisfy::All, Verdict::Admit) => true,
            (Satisfy::Any, Verdict::Admit) => {
                self.admitted = true;
                false
            }
            (Satisfy::Any, Verdict::Refuse(LocalReply::Unauthorized { challenges: more }))
                if let Some(LocalReply::Unauthorized { challenges }) = &mut self.refusal =>
            {
                // Each of them would be enough, so the client is told of each.
                challenges.extend(more);
                true
            }
            (satisfy, Verdict::Refuse(reply)) => {
                let ends = satisfy == Satisfy::All || !matches!(reply.status().as_u16(), 401 | 403);
                // As nginx: a 401 is kept over a 403, since with it the client can do something.
                let stronger = self.refusal.as_ref().is_none_or(|kept| kept.status().as_u16() != 401);
                if ends || stronger {
                    self.refusal = Some(reply);
                }
                !ends
            }
        }
    }

    /// The refusal that stands.
    pub fn outcome(self) -> Option<LocalReply> {
        self.refusal.filter(|_| !self.admitted)
    }
}

/// Reads the family.
pub fn read(reader: &mut Reader<'_>) -> Satisfy {
    reader.word(&SATISFY, &[("any", Satisfy::Any), ("all", Satisfy::All)]).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample;

    fn check(satisfy: Satisfy, verdicts: &[u16], expect: Option<u16>) {
        let client = std::net::IpAddr::from([10, 0, 0, 1]);
        let mut tally = Tally::default();
        for verdict in verdicts {
            let verdict = match verdict {
                200 => Verdict::Admit,
                0 => Verdict::Abstain,
                401 => Verdict::Refuse(LocalReply::Unauthorized { challenges: vec!["Basic".into()] }),
                403 => Verdict::Refuse(LocalReply::Forbidden { client }),
                _ => Verdict::Refuse(LocalReply::Internal),
            };
            if !tally.add(satisfy, verdict) {
                break;
            }
        }
        assert_eq!(tally.outcome().map(|reply| reply.status().as_u16()), expect, "{satisfy:?} {verdicts:?}");
    }

    #[test]
    fn any_tells_of_every_challenge() {
        let asks = |challenge: &str| {
            Verdict::Refuse(LocalReply::Unauthorized { challenges: vec![challenge.to_owned()] })
        };
        let client = std::net::IpAddr::from([10, 0, 0, 1]);
        let mut tally = Tally::default();
        for verdict in [Verdict::Refuse(LocalReply::Forbidden { client }), asks("Basic"), asks("Bearer")] {
            assert!(tally.add(Satisfy::Any, verdict));
        }
        let both = LocalReply::Unauthorized { challenges: vec!["Basic".into(), "Bearer".into()] };
        assert_eq!(tally.outcome(), Some(both));
    }

    #[test]
    fn all_means_all_and_any_means_one() {
        check(Satisfy::All, &[], None);
        check(Satisfy::All, &[200, 200], None);
        check(Satisfy::All, &[0, 401], Some(401));
        check(Satisfy::All, &[403, 200], Some(403));
        check(Satisfy::Any, &[403, 200], None);
        check(Satisfy::Any, &[200, 401], None);
        check(Satisfy::Any, &[403, 401], Some(401));
        check(Satisfy::Any, &[401, 403], Some(401));
        check(Satisfy::Any, &[0, 0], None);
    }

    #[test]
    fn a_check_that_fails_never_opens() {
        check(Satisfy::Any, &[403, 500, 200], Some(500));
        check(Satisfy::All, &[500, 200], Some(500));
    }

    #[test]
    fn a_word_that_is_not_known_counts_as_the_stricter_one() {
        for value in ["", "some", "ANY", "any;"] {
            assert_eq!(sample::read(&[("satisfy", value)], read), Satisfy::All, "{value}");
        }
        assert_eq!(sample::read(&[], read), Satisfy::All);
        assert_eq!(sample::read(&[("satisfy", "any")], read), Satisfy::Any);
    }
}
