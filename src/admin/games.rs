//! `GET /games.json`: the games that run, as all shards list them, those with most players first.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Shared, busy, json_body};
use crate::limits::{GAMES_LISTED_MAX, QUESTION_WAIT};
use crate::service::{Answers, Busy};
use crate::shard::peer::{Answer, GameList, Question, RunningGame};

/// Answers 200. `cut` is true when there are more games, or a shard has not answered in time.
pub(super) async fn games(State(pages): Shared) -> Response {
    let answers = match pages.admin.service.ask(Question::Games, QUESTION_WAIT).await {
        Ok(answers) => answers,
        Err(Busy) => return busy(),
    };
    let GameList { games, is_cut } = merged(answers);
    let row = |game: &RunningGame| json!({ "name": game.name.as_str(), "players": game.players });
    let rows: Vec<Value> = games.iter().map(row).collect();
    let body = json!({ "games": rows, "cut": is_cut });
    ([(header::CACHE_CONTROL, "no-store")], json_body(StatusCode::OK, &body)).into_response()
}

/// Merges the lists of all shards into one.
fn merged(Answers { answers, unanswered }: Answers) -> GameList {
    let mut merged = GameList { games: Vec::new(), is_cut: unanswered > 0 };
    for answer in answers {
        match answer {
            Answer::Games(list) => {
                merged.games.extend(list.games);
                merged.is_cut |= list.is_cut;
            }
            Answer::Kicked { .. } | Answer::Looked | Answer::Renewed | Answer::Store(_) | Answer::Busy => {}
        }
    }
    merged.games.sort_by(|one, other| one.rank().cmp(&other.rank()));
    merged.is_cut |= merged.games.len() > GAMES_LISTED_MAX;
    merged.games.truncate(GAMES_LISTED_MAX);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TopicName;

    fn list(games: &[(&str, u32)], is_cut: bool) -> Answer {
        let game = |(name, players): &(&str, u32)| RunningGame {
            name: TopicName::parse(name).unwrap(),
            players: *players,
        };
        Answer::Games(Box::new(GameList { games: games.iter().map(game).collect(), is_cut }))
    }

    fn names(list: &GameList) -> Vec<&str> {
        list.games.iter().map(|game| game.name.as_str()).collect()
    }

    #[test]
    fn lists_are_merged_by_players_and_then_by_name() {
        let answers = vec![list(&[("c", 5), ("b", 1)], false), list(&[("d", 9), ("a", 5)], false)];
        let all = merged(Answers { answers, unanswered: 0 });
        assert_eq!((names(&all), all.is_cut), (vec!["d", "a", "c", "b"], false));
        for (is_cut, unanswered) in [(true, 0), (false, 1)] {
            let answers = vec![list(&[("a", 1)], is_cut)];
            assert!(merged(Answers { answers, unanswered }).is_cut);
        }
    }

    #[test]
    fn what_is_too_long_together_is_cut_behind_the_first() {
        let name = |shard: usize, number: usize| format!("{shard}-{number:03}");
        let of = |shard: usize| {
            let names: Vec<String> = (0..GAMES_LISTED_MAX).map(|number| name(shard, number)).collect();
            let games: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 2)).collect();
            list(&games, false)
        };
        let all = merged(Answers { answers: vec![of(1), of(0)], unanswered: 0 });
        let expected: Vec<String> = (0..GAMES_LISTED_MAX).map(|number| name(0, number)).collect();
        assert_eq!((names(&all), all.is_cut), (expected.iter().map(String::as_str).collect(), true));
    }
}
