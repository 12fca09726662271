package envoytest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Answer is what came back on a raw connection.
type Answer struct {
	Status int // 0 when the connection closed without an answer
	Header http.Header
	Body   string
}

// Raw sends bytes as they are and reads one answer: for requests that no
// proper client makes. Lines may end in "\n"; they are sent with "\r\n".
func Raw(t testing.TB, address, request string) Answer {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(startTimeout))
	text := strings.ReplaceAll(strings.ReplaceAll(request, "\r\n", "\n"), "\n", "\r\n")
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return Answer{}
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
}
