//! What a client remembers of its topic, to come back to it (PROTOCOL 5, "Recovery in topics").

use super::message::Response;

/// Of one connection. Empty until its join was answered.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Epoch, and the last event that was seen.
    position: Option<(u64, u64)>,
    resume_token: Option<Box<str>>,
    /// It has come back, and waits for what it missed: the position of before is still the one to tell.
    catching_up: bool,
}

impl Memory {
    /// Of the connection that comes back.
    pub fn of_return(&self) -> Self {
        Self { catching_up: self.position.is_some(), ..self.clone() }
    }

    /// The payload of the join.
    pub fn join_payload(&self) -> String {
        let Some((epoch, seq)) = self.position else { return "{}".to_owned() };
        let resume = format!(r#""resume":{{"epoch":"{epoch}","seq":{seq}}}"#);
        match &self.resume_token {
            Some(token) => format!(r#"{{{resume},"resume_token":"{token}"}}"#),
            None => format!("{{{resume}}}"),
        }
    }

    pub fn handle_join_reply(&mut self, response: &Response) {
        self.resume_token.clone_from(&response.resume_token);
        let epoch = response.epoch.as_ref().and_then(|epoch| epoch.parse().ok());
        if !self.catching_up {
            self.position = epoch.zip(response.seq);
        }
    }

    pub fn handle_event(&mut self, seq: u64) {
        if let Some((_, last)) = &mut self.position {
            *last = seq;
        }
    }

    pub fn handle_catch_up(&mut self, epoch: &str, seq: u64) {
        self.catching_up = false;
        self.position = epoch.parse().ok().map(|epoch| (epoch, seq));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(epoch: &str, seq: u64, token: Option<&str>) -> Response {
        let (epoch, resume_token) = (Some(epoch.to_owned()), token.map(Box::from));
        Response { epoch, seq: Some(seq), resume_token, ..Response::default() }
    }

    #[test]
    fn who_comes_back_names_the_last_event_that_it_has_seen_and_the_newest_token() {
        let mut memory = Memory::default();
        assert_eq!(memory.join_payload(), "{}");
        memory.handle_join_reply(&reply("18446744073709551615", 4, Some("ab")));
        memory.handle_event(5);
        let mut back = memory.of_return();
        let expected = r#"{"resume":{"epoch":"18446744073709551615","seq":5},"resume_token":"ab"}"#;
        assert_eq!(back.join_payload(), expected);
        // Its reply tells where the stream is now; that is not what it has seen.
        back.handle_join_reply(&reply("18446744073709551615", 9, Some("cd")));
        let expected = r#"{"resume":{"epoch":"18446744073709551615","seq":5},"resume_token":"cd"}"#;
        assert_eq!(back.of_return().join_payload(), expected);
        back.handle_catch_up("7", 9);
        back.handle_event(10);
        assert!(back.of_return().join_payload().starts_with(r#"{"resume":{"epoch":"7","seq":10}"#));
    }

    #[test]
    fn who_never_joined_comes_back_as_somebody_new() {
        let mut back = Memory::default().of_return();
        assert_eq!(back.join_payload(), "{}");
        back.handle_join_reply(&reply("3", 2, None));
        assert_eq!(back.join_payload(), r#"{"resume":{"epoch":"3","seq":2}}"#);
    }
}
