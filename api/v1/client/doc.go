// Package client is the generated client of the control API, with models of its
// own, so that a program that calls the API links no server.
//
// An API and a ClientWithResponses are safe for concurrent use if their HTTP
// client is. They send what they are given and judge no answer: a status that
// is no success has its body, an Error in JSON, in the response's Body.
package client
