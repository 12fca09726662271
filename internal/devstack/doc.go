// Package devstack runs a whole Gatehouse on one machine: Postgres, control, a
// demo app, a fake provider of language models, the sidecar and Envoy as children
// of this process, over a data folder with a policy set, keys and the logs.
//
//	DATA/keys/       dev-key.json (0600), jwks.json, jwt-secret (0600)
//	DATA/postgres/   the database and its log, unless another is named
//	DATA/policies/   the policy set, unless another is named
//	DATA/run/        the socket between Envoy and the sidecar
//	DATA/state/      the sidecar's state, Envoy's bootstrap, decisions
//	DATA/logs/       one log a child
//
// It owns the children, from their start to their end: they die with this
// process, however it dies. A child that ends by itself is reported, and the
// others go on, so that what fails closed can be seen to.
//
// As root, all but the sidecar run under unprivileged uids of their own. It
// refuses a data folder that these can't pass, and one that is in use.
//
// A Stack's methods are safe for concurrent use.
package devstack
