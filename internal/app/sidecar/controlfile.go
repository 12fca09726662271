package sidecar

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"gatehouse/api/v1/sidecarpb"
	"gatehouse/internal/trusted"
	"gatehouse/internal/wholefile"
)

// controlFile is what a restarted sidecar knows before it hears control: whom
// it serves, who is revoked, and the keys. It lies in the state folder.
const controlFile = "control.json"

// savedControl is its form.
type savedControl struct {
	Welcome   []byte    `json:"welcome"` // as sent
	Live      []byte    `json:"live"`    // as sent
	Confirmed time.Time `json:"confirmed"`
}

// save writes what control said. A failure costs a restarted sidecar that it
// waits for control.
func (m *control) save() {
	m.mu.Lock()
	m.saved = m.app.live.Confirmed()
	s := savedControl{Confirmed: m.saved.Round(0)}
	var err1, err2 error
	s.Welcome, err1 = proto.Marshal(m.welcome)
	s.Live, err2 = proto.Marshal(m.live)
	m.mu.Unlock()
	text, err3 := json.Marshal(s)
	err := errors.Join(err1, err2, err3)
	if err == nil {
		err = wholefile.Replace(filepath.Join(m.app.sidecar.StateDir, controlFile), text, 0o600)
	}
	if err != nil {
		m.app.log.Error("what control said can't be saved", "error", err)
	}
}

// readOwn reads a file that nobody but root and this process's user could write.
func readOwn(path string) ([]byte, error) {
	f, err := trusted.Open(path, os.Geteuid())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// restore takes up what control said to the last process. It is as old as it
// was: without control it grows stale from there.
func (m *control) restore() error {
	text, err := readOwn(filepath.Join(m.app.sidecar.StateDir, controlFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s savedControl
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	w, l := &sidecarpb.Welcome{}, &sidecarpb.Live{}
	if err == nil {
		err = errors.Join(proto.Unmarshal(s.Welcome, w), proto.Unmarshal(s.Live, l))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", controlFile, err)
	}
	m.welcome, m.live = w, l
	if w.GetPolicySet() != "" {
		m.app.live.Bind(bindingOf(w))
	}
	m.app.live.SetState(stateOf(l))
	if !s.Confirmed.IsZero() {
		m.app.live.Confirm(s.Confirmed)
		m.confirmKeys(s.Confirmed)
	}
	return nil
}
