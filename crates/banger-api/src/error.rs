//! How a failure travels: a code that programs match, a chain that people read, a hint.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What kind of failure it is. Closed: clients match it without a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request itself is wrong: a name, a size, a combination.
    InvalidArgument,
    NotFound,
    AlreadyExists,
    /// The target is not in a state that allows the request.
    Conflict,
    /// A name prefix fits several targets.
    Ambiguous,
    /// The host lacks something: a program, memory, space.
    HostUnfit,
    /// A program or a file of the host failed.
    HostFailed,
    /// The guest failed: no boot, no answer.
    GuestFailed,
    /// A mirror, registry or archive is down or lies.
    SourceFailed,
    Cancelled,
    /// Our own bug.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that carries this code (RFC 9110).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict | Self::Ambiguous => 409,
            Self::HostUnfit => 422,
            Self::SourceFailed => 502,
            Self::GuestFailed => 504,
            Self::Cancelled => 499,
            Self::HostFailed | Self::Internal => 500,
        }
    }
}

/// A failure with everything that a person needs to act on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    pub code: ErrorCode,
    /// What failed, on what.
    pub message: String,
    /// Why, from the nearest cause to the farthest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What is left behind, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The last lines of the guest's console, control characters escaped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub console: Vec<String>,
    /// The last lines that the VMM or another program printed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl ApiError {
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            causes: Vec::new(),
            left: None,
            hint: None,
            console: Vec::new(),
            log: Vec::new(),
        }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Appends a whole chain of causes.
    #[must_use]
    pub fn with_causes_of(mut self, error: &dyn std::error::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Transparent wrappers repeat their cause word for word.
            if self.causes.last().unwrap_or(&self.message) != &text {
                self.causes.push(text);
            }
            source = cause.source();
        }
        self
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.causes
            .iter()
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for ApiError {}
