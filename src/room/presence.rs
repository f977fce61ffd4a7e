//! Presence: who is in a topic, and what each of them says about itself.
