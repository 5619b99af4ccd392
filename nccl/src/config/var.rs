//! One environment variable: its name, type, default, parser and help.

use crate::config::env::Env;
use crate::error::Error;
use crate::error::Result;

/// A variable with a value of type `T`.
///
/// ```
/// use nccl::config::Env;
/// use nccl::config::vars;
///
/// let env = Env::empty().with("NCCL_RS_TIMEOUT_MS", "1500");
/// assert_eq!(vars::TIMEOUT_MS.read(&env, &mut Vec::new())?.as_millis(), 1500);
/// assert_eq!(vars::TIMEOUT_MS.name(), "NCCL_RS_TIMEOUT_MS");
/// # Ok::<(), nccl::Error>(())
/// ```
#[derive(Debug)]
pub struct Var<T> {
    pub(super) row: Row,
    pub(super) default: T,
    pub(super) parse: fn(&str) -> Result<T, String>,
}

/// What the documentation says about a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Its values, in words.
    pub values: &'static str,
    /// The unit of its value; empty if it has none.
    pub unit: &'static str,
    /// What holds if it is unset.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What happens to a value that cannot be.
    pub on_bad: OnBad,
}

/// What happens to a value that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnBad {
    /// It is an error, so that no program runs with a default that nobody asked for.
    Refuse,
    /// It is ignored with a warning and the default holds, since NCCL itself ignores it.
    Ignore,
}

impl<T: Clone> Var<T> {
    /// Returns the variable's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.row.name
    }

    /// Returns what the documentation says about it.
    #[must_use]
    pub fn row(&self) -> Row {
        self.row
    }

    /// Returns the value that holds if the variable is unset.
    #[must_use]
    pub fn default_value(&self) -> T {
        self.default.clone()
    }

    /// Parses the text of a value.
    ///
    /// # Errors
    /// [`Error::Env`] if there is no such value, whatever [`Row::on_bad`] says.
    pub fn parse(&self, text: &str) -> Result<T> {
        (self.parse)(text).map_err(|problem| Error::env(self.row.name, text, problem))
    }

    /// Reads the variable: its value, or the default if it is unset.
    ///
    /// A value that NCCL ignores is noted in `notes`; an empty variable of NCCL's is an unset one.
    ///
    /// # Errors
    /// [`Error::Env`] if the value cannot be and the variable is not one that NCCL ignores then.
    pub fn read(&self, env: &Env, notes: &mut Vec<String>) -> Result<T> {
        if env.value(self.row.name).is_none() {
            return Ok(self.default_value());
        }
        let ignores = self.row.on_bad == OnBad::Ignore;
        let read = env.get(self.row.name).and_then(|text| match text {
            None => Ok(self.default_value()),
            Some("") if ignores || self.row.name == "NCCL_COMM_ID" => Ok(self.default_value()),
            Some(text) => self.parse(text),
        });
        match read {
            Err(error) if ignores => {
                let origin = match env.file_of(self.row.name) {
                    Some(file) => format!(" (from {})", file.display()),
                    None => String::new(),
                };
                notes.push(format!("ignored{origin}, as NCCL does: {error}"));
                Ok(self.default_value())
            }
            Err(Error::Env { var, value, problem }) => match env.file_of(self.row.name) {
                Some(file) => {
                    let var = format!("{var} (from {})", file.display());
                    Err(Error::Env { var, value, problem })
                }
                None => Err(Error::Env { var, value, problem }),
            },
            other => other,
        }
    }
}
