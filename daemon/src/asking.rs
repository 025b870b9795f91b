//! A connection of the daemon's own to a target, on which it asks and changes nothing.
//!
//! Does not belong here: what is asked, and what comes of the answers.

use chaperone_wire::postgres::{Answer, Row, Startup, question};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    inspect::Destination,
    shared::Shared,
    tls::Stream,
    upstream::{Held, sign_on},
};

/// Protocol 3.0.
const VERSION: u32 = 3 << 16;

/// A connection of the daemon's own.
pub(crate) struct Asking {
    stream: Stream,
    bytes: Vec<u8>,
}

impl Asking {
    /// Signs on; `what_for` is the name by which the server shows the connection.
    pub(crate) async fn connect(
        shared: &Shared,
        place: &Destination,
        held: &Held,
        what_for: &str,
    ) -> Result<Self, String> {
        let connected =
            held.connector.connect(place.server.0).await.map_err(|error| error.to_string())?;
        let mut stream = connected.stream;
        let mut parameters = vec![
            ("user".to_owned(), held.account.user.clone()),
            ("application_name".to_owned(), what_for.into()),
            ("client_encoding".to_owned(), "UTF8".into()),
            (
                "options".to_owned(),
                "-c standard_conforming_strings=on -c default_transaction_read_only=on".into(),
            ),
        ];
        if let Some(database) = &place.database {
            parameters.push(("database".to_owned(), database.clone()));
        }
        let startup = Startup { version: VERSION, parameters };
        let lost = |error: std::io::Error| crate::tls::target::lost(&error);
        stream.write_all(&startup.encode()).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let signed_on = sign_on(&mut stream, &held.account, connected.identified, &shared.deriving)
            .await
            .map_err(|error| error.to_string())?;
        let mut asking = Self { stream, bytes: signed_on.said };
        // Up to the server's first word that it is ready.
        asking.answer().await?;
        Ok(asking)
    }

    pub(crate) async fn ask(&mut self, text: &str) -> Result<Vec<Row>, String> {
        let lost = |error: std::io::Error| crate::tls::target::lost(&error);
        self.stream.write_all(&question(text)).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Vec<Row>, String> {
        let mut answer = Answer::default();
        loop {
            let (used, done) =
                answer.server(&self.bytes).map_err(|violation| violation.to_string())?;
            self.bytes.drain(..used);
            if let Some(done) = done {
                return done.map_err(|error| error.message.unwrap_or_default());
            }
            let read = self.stream.read_buf(&mut self.bytes).await;
            if read.map_err(|error| crate::tls::target::lost(&error))? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }

    pub(crate) async fn goodbye(&mut self) {
        let _ = self.stream.write_all(b"X\0\0\0\x04").await;
        let _ = self.stream.flush().await;
    }
}
