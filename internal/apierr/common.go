package apierr

// Missing says that there is no such thing, or none that the caller may see.
func Missing() *Error { return New(ResourceNotFound, Options{}) }

// Conflict says that what is asked for does not go with what there is. reason is
// one of those that docs/ERRORS.md lists; cause is for the log.
func Conflict(reason string, cause error) *Error {
	return New(StateConflict, Options{Details: []Detail{Text("reason", reason)}, Cause: cause})
}

// Unfit says which members of what was sent can't be as they are. cause is for
// the log.
func Unfit(cause error, faults ...Field) *Error {
	return New(ValidationInvalid, Options{Details: []Detail{Fields(faults)}, Cause: cause})
}
