//! Protocols inside a channel: what of their streams may go on, and which parts are commands.

use bytes::Bytes;

use super::{
    Action, Ask, Channel, Conversation, Pending, Place, Violation, Wanted, channel::Reading, scp,
    sftp,
};

/// Bytes that may wait for the agent's client before what it asks for is not looked at.
const OWN: u32 = 64 * 1024;

/// What a stream's protocol says of its front.
enum Step {
    /// Something moved.
    Moved,
    /// More must come.
    Need,
    /// The other stream must come first.
    Wait,
    /// This must be decided.
    Ask { number: u64, length: usize, up: bool, wanted: Wanted, objection: Option<&'static str> },
}

impl Channel {
    pub(super) fn read_up(&mut self, bytes: Bytes) {
        self.up_rest.push(bytes);
    }

    pub(super) fn read_down(&mut self, bytes: Bytes) {
        self.down_rest.push(bytes);
    }

    fn pass_up(&mut self, length: usize, actions: &mut Vec<Action>) {
        let bytes = self.up_rest.split_to(length);
        let mut out = Vec::new();
        if let Some(up) = &mut self.up {
            up.data(None, &bytes, None, &mut out);
        }
        actions.extend(out.into_iter().map(Action::ToTarget));
    }

    fn pass_down(&mut self, length: usize, actions: &mut Vec<Action>) {
        let bytes = self.down_rest.split_to(length);
        self.add_down(&bytes, actions);
    }

    fn add_down(&mut self, bytes: &Bytes, actions: &mut Vec<Action>) {
        if self.agent_closed {
            return;
        }
        let mut out = Vec::new();
        if let Some(down) = &mut self.down {
            down.data(None, bytes, None, &mut out);
        }
        actions.extend(out.into_iter().map(Action::ToAgent));
    }

    fn add_up(&mut self, bytes: &Bytes, actions: &mut Vec<Action>) {
        if bytes.is_empty() {
            return;
        }
        let mut out = Vec::new();
        if let Some(up) = &mut self.up {
            up.data(None, bytes, None, &mut out);
        }
        actions.extend(out.into_iter().map(Action::ToTarget));
    }

    pub(super) fn allowed_up(&mut self, length: usize, actions: &mut Vec<Action>) {
        match &mut self.reading {
            Reading::Plain => {}
            Reading::Sftp(sftp) => sftp.allowed(),
            Reading::Scp(scp) => scp.allowed(),
        }
        self.pass_up(length, actions);
    }

    pub(super) fn allowed_down(&mut self, length: usize, actions: &mut Vec<Action>) {
        if let Reading::Scp(scp) = &mut self.reading {
            scp.allowed();
        }
        self.pass_down(length, actions);
    }

    pub(super) fn refused_up(&mut self, length: usize, why: &str, actions: &mut Vec<Action>) {
        self.up_rest.advance(length);
        self.refused_inside(why, actions);
    }

    pub(super) fn refused_down(&mut self, length: usize, why: &str, actions: &mut Vec<Action>) {
        self.down_rest.advance(length);
        self.refused_inside(why, actions);
    }

    fn refused_inside(&mut self, why: &str, actions: &mut Vec<Action>) {
        let why = why.trim_end();
        match &mut self.reading {
            Reading::Plain => {}
            Reading::Sftp(sftp) => sftp.refused(why),
            Reading::Scp(scp) => {
                let scp::Refused { to_client, to_server } = scp.refused(why);
                self.add_down(&to_client.into(), actions);
                self.add_up(&to_server.into(), actions);
            }
        }
    }

    /// One step of the stream from the agent.
    fn step_up(&mut self, actions: &mut Vec<Action>) -> Result<Step, Violation> {
        let parent = self.command.unwrap_or(0);
        match &mut self.reading {
            Reading::Plain => Ok(Step::Need),
            // Answers of ours wait for a client that does not read them: no more are made.
            Reading::Sftp(_) if self.down.as_ref().is_some_and(|down| down.queued() > OWN) => {
                Ok(Step::Wait)
            }
            Reading::Sftp(sftp) => {
                let step = sftp.client(&self.up_rest);
                Ok(match step.map_err(|broken| Violation::Inside(broken.to_string()))? {
                    sftp::ClientStep::Need(_) => Step::Need,
                    sftp::ClientStep::Wait => Step::Wait,
                    sftp::ClientStep::Pass(length) => {
                        self.pass_up(length, actions);
                        Step::Moved
                    }
                    sftp::ClientStep::Discard(length) => {
                        self.up_rest.advance(length);
                        Step::Moved
                    }
                    sftp::ClientStep::Instead(length, bytes) => {
                        self.up_rest.advance(length);
                        self.add_up(&bytes.into(), actions);
                        Step::Moved
                    }
                    sftp::ClientStep::Command { number, length, operation, objection } => {
                        let wanted = Wanted::Sftp { parent, operation };
                        Step::Ask { number, length, up: true, wanted, objection }
                    }
                })
            }
            Reading::Scp(scp) => {
                let mut events = Vec::new();
                let step = scp.client(&self.up_rest, &mut events);
                let step = step.map_err(|broken| Violation::Inside(broken.to_string()))?;
                self.tell_scp(events, actions);
                Ok(self.scp_step(step, true, parent, actions))
            }
        }
    }

    /// One step of the stream from the target.
    fn step_down(&mut self, actions: &mut Vec<Action>) -> Result<Step, Violation> {
        let parent = self.command.unwrap_or(0);
        match &mut self.reading {
            Reading::Plain => Ok(Step::Need),
            Reading::Sftp(sftp) => {
                let mut events = Vec::new();
                let step = sftp.server(&self.down_rest, &mut events);
                let step = step.map_err(|broken| Violation::Inside(broken.to_string()))?;
                let moved = step.pass + step.discard > 0 || !step.insert.is_empty();
                self.pass_down(step.pass, actions);
                self.down_rest.advance(step.discard);
                self.add_down(&step.insert.into(), actions);
                self.add_up(&step.ask.into(), actions);
                self.tell_sftp(events, actions);
                Ok(if moved || step.need == 0 && !self.down_rest.is_empty() {
                    Step::Moved
                } else {
                    Step::Need
                })
            }
            Reading::Scp(scp) => {
                let mut events = Vec::new();
                let step = scp.server(&self.down_rest, &mut events);
                let step = step.map_err(|broken| Violation::Inside(broken.to_string()))?;
                self.tell_scp(events, actions);
                Ok(self.scp_step(step, false, parent, actions))
            }
        }
    }

    fn scp_step(
        &mut self,
        step: scp::Step,
        up: bool,
        parent: u64,
        actions: &mut Vec<Action>,
    ) -> Step {
        match step {
            scp::Step::Need(_) => Step::Need,
            scp::Step::Wait => Step::Wait,
            scp::Step::Pass(length) => {
                if up {
                    self.pass_up(length, actions);
                } else {
                    self.pass_down(length, actions);
                }
                Step::Moved
            }
            // Only of files that the target sends.
            scp::Step::Instead(length, bytes) => {
                self.down_rest.advance(length);
                self.add_down(&bytes.into(), actions);
                Step::Moved
            }
            scp::Step::Command { number, length, operation } => {
                let wanted = Wanted::Copy { parent, operation };
                Step::Ask { number, length, up, wanted, objection: None }
            }
        }
    }
}

impl Conversation {
    /// Reads both streams of a channel until neither moves.
    pub(super) fn read_inside(&mut self, key: u32) -> Result<(), Violation> {
        let next = self.asked + 1;
        let Some(channel) = self.channels.get_mut(&key) else { return Ok(()) };
        let actions = &mut self.actions;
        let mut asked = None;
        while asked.is_none() {
            let mut moved = false;
            channel.up_waits = false;
            for up in [true, false] {
                // What waits for a decision stops its own stream; answers to what came before it
                // flow.
                let stops = match channel.pending {
                    None => false,
                    Some(Pending::Up(_)) => up,
                    _ => true,
                };
                if stops {
                    continue;
                }
                let step =
                    if up { channel.step_up(actions)? } else { channel.step_down(actions)? };
                match step {
                    Step::Moved => moved = true,
                    Step::Need => {}
                    Step::Wait => channel.up_waits |= up && !channel.up_rest.is_empty(),
                    Step::Ask { number, length, up, wanted, objection } => {
                        channel.commands.insert(number, next);
                        channel.ask = Some(next);
                        channel.pending =
                            Some(if up { Pending::Up(length) } else { Pending::Down(length) });
                        asked = Some((wanted, objection));
                        break;
                    }
                }
            }
            if !moved {
                break;
            }
        }
        if let Some((wanted, objection)) = asked {
            self.asked = next;
            self.asks.insert(next, Place::Channel(key));
            self.actions.push(Action::Ask(Box::new(Ask {
                number: next,
                wanted,
                objection,
                terminal: None,
                environment: Vec::new(),
            })));
        }
        Ok(())
    }
}
