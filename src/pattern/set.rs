//! Many patterns, one question: which one, in the given order, matches first?
//!
//! Patterns that are linear and tied to the start are searched together by one automaton; the others (look-around,
//! back-references, an alternative without `^`) are asked one by one, and only those that stand before the automaton's
//! answer.

use std::sync::Arc;

use regex_automata::meta;

use super::{Anchor, Case, Engine, MAX_INPUT, Pattern, StepLimit, anchored, linear};

/// An ordered set.
pub struct PatternSet {
    patterns: Vec<Arc<Pattern>>,
    /// Automata over runs of `together`, in order.
    automata: Vec<Automaton>,
    /// Indices into `patterns` that are asked alone, ascending.
    alone: Vec<usize>,
    /// Some pattern of the automata holds `$`: a final newline in the input needs the exact engine.
    dollar: bool,
}

struct Automaton {
    regex: meta::Regex,
    /// Index into `patterns` by pattern number of the automaton.
    index: Vec<usize>,
}

impl PatternSet {
    /// A set in the order given. Patterns that cannot share an automaton are still found.
    pub fn new(patterns: Vec<Arc<Pattern>>) -> Self {
        let (together, alone): (Vec<usize>, Vec<usize>) = (0..patterns.len())
            .partition(|index| patterns.get(*index).is_some_and(|pattern| shares(pattern)));
        let dollar = together.iter().any(|i| patterns.get(*i).is_some_and(|p| p.translated.dollar));
        let mut set = Self { patterns, automata: Vec::new(), alone, dollar };
        for case in [Case::Insensitive, Case::Sensitive] {
            let run: Vec<usize> = together
                .iter()
                .copied()
                .filter(|i| set.patterns.get(*i).is_some_and(|p| p.case == case))
                .collect();
            set.add(run, case);
        }
        set.alone.sort_unstable();
        set
    }

    /// Number of patterns.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// True when there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The pattern at a place.
    pub fn get(&self, index: usize) -> Option<&Arc<Pattern>> {
        self.patterns.get(index)
    }

    /// Index of the first pattern, in order, that matches.
    ///
    /// # Errors
    /// [`StepLimit`] with the index of the pattern whose search went over its bounds before an earlier one matched.
    pub fn find(&self, input: &[u8]) -> Result<Option<usize>, (usize, StepLimit)> {
        if input.len() > MAX_INPUT && !self.patterns.is_empty() {
            return Err((0, StepLimit));
        }
        if self.dollar && input.last() == Some(&b'\n') {
            return self.first_of(0..self.patterns.len(), input);
        }
        let shared = self
            .automata
            .iter()
            .filter_map(|automaton| {
                let found = automaton.regex.search_half(&anchored(input))?;
                automaton.index.get(found.pattern().as_usize()).copied()
            })
            .min();
        let bound = shared.unwrap_or(usize::MAX);
        let single = self.first_of(self.alone.iter().copied().take_while(|index| *index < bound), input)?;
        Ok(single.or(shared))
    }

    fn first_of(
        &self,
        indices: impl Iterator<Item = usize>,
        input: &[u8],
    ) -> Result<Option<usize>, (usize, StepLimit)> {
        for index in indices {
            let Some(pattern) = self.patterns.get(index) else { continue };
            if pattern.is_match(input).map_err(|limit| (index, limit))? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Builds automata over `run`, halving it until each part fits; what does not fit is asked alone.
    fn add(&mut self, run: Vec<usize>, case: Case) {
        if run.len() < 2 {
            self.alone.extend(run);
            return;
        }
        let texts: Vec<&str> = run
            .iter()
            .filter_map(|index| self.patterns.get(*index))
            .map(|pattern| pattern.translated.linear.as_str())
            .collect();
        if let Ok(regex) = linear(&texts, case) {
            self.automata.push(Automaton { regex, index: run });
            return;
        }
        let mut run = run;
        let rest = run.split_off(run.len() / 2);
        self.add(run, case);
        self.add(rest, case);
    }
}

/// True for a pattern that only ever matches from the start, on the linear engine.
fn shares(pattern: &Pattern) -> bool {
    matches!(pattern.engine, Engine::Linear(_))
        && pattern.anchor == Anchor::Start
        && !pattern.translated.top_alternation
}

impl std::fmt::Debug for PatternSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.patterns.iter().map(|pattern| pattern.as_str())).finish()
    }
}
