package ledger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// A spool is its magic and then frames: the payload's length and the CRC-32C of
// length and payload (RFC 3720, appendix B.4), 4 bytes each and big endian, and the
// payload.
const (
	magic      = "GHSPOOL1"
	frameBytes = 8
	maxPayload = 4096 // a settlement is far smaller
)

// errTorn is the error of all that is no whole frame.
var errTorn = errors.New("no whole record")

func sum(head, payload []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Update(0, table, head), table, payload)
}

// appendFrame adds a frame. A payload is of 1 to maxPayload bytes.
func appendFrame(b, payload []byte) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, sum(b[at:at+4], payload))
	return append(b, payload...)
}

// readFrame reads the payload of the next frame. io.EOF says that there is none;
// any other error, that what follows can't be read.
func readFrame(r *bufio.Reader) ([]byte, error) {
	var head [frameBytes]byte
	if n, err := io.ReadFull(r, head[:]); n == 0 && errors.Is(err, io.EOF) {
		return nil, io.EOF
	} else if err != nil {
		return nil, torn(err)
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n == 0 || n > maxPayload { // a file that was extended and not written reads as zeros
		return nil, errTorn
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, torn(err)
	}
	if sum(head[:4], payload) != binary.BigEndian.Uint32(head[4:]) {
		return nil, errTorn
	}
	return payload, nil
}

// torn is errTorn for a file that ends too early, and else what the disk says.
func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}
