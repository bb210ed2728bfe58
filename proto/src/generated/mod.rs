//! Code made from `protos/`: messages (prost) and their JSON (pbjson), one file each a package.
//!
//! Committed, so that building needs no generator; `tests/codegen.rs` keeps it equal to what the `.proto` files say and rewrites
//! it under `UPDATE_GEN=1`. The nesting is the packages', because generated code refers to other packages by it.

pub mod google {
    //! Package `google`.
    pub mod v1 {
        //! Package `google.v1`: pprof.
        include!("google.v1.rs");
        include!("google.v1.serde.rs");
    }
}

pub mod grpc {
    //! Package `grpc`.
    pub mod health {
        //! Package `grpc.health`.
        pub mod v1 {
            //! Package `grpc.health.v1`.
            include!("grpc.health.v1.rs");
            include!("grpc.health.v1.serde.rs");
        }
    }
}

pub mod push {
    //! Package `push`.
    pub mod v1 {
        //! Package `push.v1`.
        include!("push.v1.rs");
        include!("push.v1.serde.rs");
    }
}

pub mod querier {
    //! Package `querier`.
    pub mod v1 {
        //! Package `querier.v1`.
        include!("querier.v1.rs");
        include!("querier.v1.serde.rs");
    }
}

pub mod types {
    //! Package `types`.
    pub mod v1 {
        //! Package `types.v1`.
        include!("types.v1.rs");
        include!("types.v1.serde.rs");
    }
}
