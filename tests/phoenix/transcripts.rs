//! What `scripts/phoenix-clients` recorded of the official Phoenix client, again, without Node: the client's messages as they
//! were, the relay's letter by letter. `tests/phoenix_clients/README.md` has the format of `transcripts/`.
//!
//! Restarts, idle closes and expiring tokens are not among the transcripts: their cases are `recorded: false`, since a
//! client that connects again by itself does so whenever it likes.

mod placeholders;
mod replay;
mod transcript;

use replay::replay;
use transcript::{Content, Line, Transcript};

#[test]
fn every_recorded_conversation_goes_as_it_went() {
    let transcripts = Transcript::read_all();
    assert!(transcripts.len() >= 28, "only {} transcripts", transcripts.len());
    let faults: Vec<String> = transcripts.iter().filter_map(|transcript| replay(transcript).err()).collect();
    assert!(faults.is_empty(), "{} faults\n\n{}\n", faults.len(), faults.join("\n\n"));
}

#[test]
fn a_changed_letter_is_refused() {
    for transcript in Transcript::read_all() {
        for index in transcript.told() {
            let mut changed = transcript.clone();
            let Line::Told { content, .. } = &mut changed.lines[index].1 else { unreachable!("a told line") };
            let before = content.clone();
            change_last_letter(content);
            let fault = replay(&changed).expect_err("a changed letter");
            let place = format!("{}.jsonl:{}", transcript.name, transcript.lines[index].0);
            assert!(fault.starts_with(&place), "{place} was changed from {before:?}:\n{fault}");
        }
    }
}

#[test]
fn a_message_too_many_or_too_few_or_at_another_place_is_refused() {
    for transcript in Transcript::read_all() {
        for index in transcript.told() {
            let (number, line) = transcript.lines[index].clone();
            let case = format!("{}.jsonl:{number}", transcript.name);

            let mut without = transcript.clone();
            without.lines.remove(index);
            assert!(replay(&without).is_err(), "{case} was taken away");

            let mut twice = transcript.clone();
            twice.lines.insert(index, (number, line.clone()));
            assert!(replay(&twice).is_err(), "{case} was doubled");

            // Lines of different sockets may stand in any order.
            let same_socket = |(_, next): &(usize, Line)| {
                matches!(next, Line::Told { .. }) && next.socket() == line.socket()
            };
            if transcript.lines.get(index + 1).is_some_and(same_socket) {
                let mut swapped = transcript.clone();
                swapped.lines.swap(index, index + 1);
                assert!(replay(&swapped).is_err(), "{case} and the line behind it were swapped");
            }
        }
    }
}

/// Changes the last letter that is not part of a placeholder, or the last digit of a binary message.
fn change_last_letter(content: &mut Content) {
    match content {
        Content::Text(text) => {
            let mut in_placeholder = false;
            let outside = |(_, letter): &(usize, char)| {
                in_placeholder = match letter {
                    '>' => true,
                    '<' => false,
                    _ => in_placeholder,
                };
                letter.is_ascii_alphabetic() && !in_placeholder
            };
            let (at, letter) = text.char_indices().rev().find(outside).expect("a letter");
            let other = if letter == 'x' { "y" } else { "x" };
            text.replace_range(at..=at, other);
        }
        Content::Binary(hex) => {
            let other = if hex.ends_with('0') { '1' } else { '0' };
            hex.pop();
            hex.push(other);
        }
    }
}
