//! What an editor types: a few characters at a random place, or at one where everybody types; sometimes it deletes.

use corelay::wire::operation::Operation;

use crate::schedule::random;

/// The place where everybody types, in characters.
const CROWDED_PLACE: u32 = 7;
/// Of so many edits one is made there.
const CROWDED_ONE_IN: u64 = 3;
const CHARACTERS_MAX: u32 = 8;
/// Most characters that a text is filled up with at a time.
const FILL_MAX: u32 = 8_000;
/// Some need escapes in JSON, some several bytes, one two units of UTF-16.
const LETTERS: [char; 16] =
    ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', ' ', '.', '\n', '"', '\\', 'é', '語', '🦀'];

/// How long a text is to be, in characters.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    pub characters: u32,
    /// Whether this editor is the one that fills it up.
    pub fills: bool,
}

/// An edit of a text of `length` characters, which depends on `seed` and `number` only. Texts stay about as long as `goal` says:
/// shorter ones mostly grow, longer ones mostly shrink.
pub fn draft(length: u32, goal: Goal, seed: u64, number: u32) -> Operation {
    let dice = random(seed, number);
    let characters = 1 + (dice >> 8) as u32 % CHARACTERS_MAX;
    let place = if dice.is_multiple_of(CROWDED_ONE_IN) {
        CROWDED_PLACE.min(length)
    } else {
        (dice >> 32) as u32 % (length + 1)
    };
    let mut operation = Operation::default();
    operation.keep(place);
    let grows = (dice >> 16) % 4 < if length < goal.characters { 3 } else { 1 };
    if goal.fills && length < goal.characters / 4 * 3 {
        let missing = (goal.characters - length).min(FILL_MAX);
        operation.insert(&letters(missing, dice), missing);
    } else if grows || place == length {
        operation.insert(&letters(characters, dice), characters);
    } else {
        operation.delete(characters.min(length - place));
    }
    operation.end()
}

fn letters(characters: u32, dice: u64) -> String {
    (0..characters).map(|at| LETTERS[(random(dice, at) % LETTERS.len() as u64) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of a text after so many edits, and how often each place was edited.
    fn edited(goal: Goal, edits: u32) -> (u64, Vec<u32>) {
        let (mut length, mut places) = (0, vec![0; 1000]);
        for number in 0..edits {
            let operation = draft(length as u32, goal, 5, number);
            assert!(operation.reach() <= length);
            let (inserted, deleted) = operation.changes();
            let kept = operation.reach() - deleted;
            places[kept as usize] += 1;
            length = length + inserted - deleted;
        }
        (length, places)
    }

    #[test]
    fn texts_are_filled_and_stay_as_long_as_they_are_to_be() {
        let (length, places) = edited(Goal { characters: 300, fills: true }, 10_000);
        assert!((200..400).contains(&length), "{length}");
        assert!((3_000..4_000).contains(&places[CROWDED_PLACE as usize]), "{places:?}");
        assert!(places[20..200].iter().all(|&edits| edits > 0), "{places:?}");
        let (length, _) = edited(Goal { characters: 300, fills: true }, 1);
        assert_eq!(length, 300);
        let (length, _) = edited(Goal { characters: 300, fills: false }, 1);
        assert!((1..=8).contains(&length), "{length}");
    }
}
