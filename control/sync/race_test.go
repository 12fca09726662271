//go:build race

package sync

// raceDetector tells that timings mean nothing.
const raceDetector = true
