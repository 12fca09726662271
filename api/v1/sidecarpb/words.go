package sidecarpb

// Words of the ledger stream beside the ledger's own verdicts and outcomes; see
// sidecar.proto.
const (
	Forbidden   = "forbidden"   // the tenant is not the sidecar's
	Invalid     = "invalid"     // it can't be kept
	Unknown     = "unknown"     // there is no such tenant
	Busy        = "busy"        // nothing was done
	Unavailable = "unavailable" // it may have been done
)
