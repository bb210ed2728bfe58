//! What a tenant may use of a node, asked of its home shard and lent by it: ingestion tokens, and places for series.

/// What became of lent tokens since the holder's last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenReport {
    /// Used up by pushes.
    pub spent: u64,
    /// Not needed: the home shard has them back.
    pub returned: u64,
}

/// About a tenant's ingestion tokens (bytes). Between a shard and the tenant's home shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateRequest {
    /// To the home shard: take tokens for a push, and lend some more.
    Take {
        /// Tenant id.
        tenant: String,
        /// Uncompressed profile bytes plus label bytes, as claimed.
        bytes: u64,
        /// What became of those that were lent before.
        report: TokenReport,
        /// Whether the asker can hold tokens of this tenant.
        takes_lease: bool,
    },
    /// To the home shard: take tokens even if they are not there (a size known only after inflating).
    Settle {
        /// Tenant id.
        tenant: String,
        /// What was more than claimed.
        bytes: u64,
    },
    /// To the home shard: the asker holds nothing of this tenant any more.
    GiveBack {
        /// Tenant id.
        tenant: String,
        /// What became of its tokens.
        report: TokenReport,
    },
    /// From the home shard: it needs what was lent.
    Recall {
        /// Tenant id.
        tenant: String,
    },
}

/// To a [`RateRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateReply {
    /// Taken.
    Granted {
        /// Tokens lent beside those taken.
        lease: u64,
    },
    /// Over the rate.
    Limited {
        /// When the tokens will be there if nobody takes any, ns from now; `None`: never, for they are more than the burst.
        wait_ns: Option<u64>,
    },
    /// To [`RateRequest::Settle`] and [`RateRequest::GiveBack`].
    Noted,
    /// To [`RateRequest::Recall`]: nothing is held any more.
    Recalled(TokenReport),
}

/// About a tenant's places for series. Between a shard that has heads of the tenant and its home shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacesRequest {
    /// To the home shard: room for new series.
    Ask {
        /// Tenant id.
        tenant: String,
        /// Series that the asker has; it holds no other places.
        used: u64,
        /// Series that it would make.
        new: u64,
    },
    /// To the home shard: what the sender holds.
    Hold {
        /// Tenant id.
        tenant: String,
        /// All its places.
        places: u64,
    },
    /// From the home shard: it needs the places that are not used. What is kept is told by a [`PlacesRequest::Hold`] before the answer.
    Recall {
        /// Tenant id.
        tenant: String,
    },
}

/// To a [`PlacesRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlacesReply {
    /// The asker may have so many series.
    Granted {
        /// All its places, used ones among them.
        places: u64,
    },
    /// Over the limit.
    Limited {
        /// Series of the tenant on the node.
        series: u64,
        /// How many it may have.
        limit: u64,
    },
    /// To [`PlacesRequest::Hold`] and [`PlacesRequest::Recall`].
    Noted,
}
