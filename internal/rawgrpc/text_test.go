package rawgrpc

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// sample has a field of each wire type, a group that protobuf no longer writes
// included.
func sample() Message {
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "a\xff")
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), math.MaxUint64)
	b = protowire.AppendFixed64(protowire.AppendTag(b, 3, protowire.Fixed64Type), 1)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 4, protowire.Fixed32Type), 1)
	b = protowire.AppendTag(b, 5, protowire.StartGroupType)
	b = protowire.AppendVarint(protowire.AppendTag(b, 6, protowire.VarintType), 1)
	b = protowire.AppendTag(b, 5, protowire.EndGroupType)
	return protowire.AppendBytes(protowire.AppendTag(b, protowire.MaxValidNumber, protowire.BytesType), nil)
}

// seen is a field in comparable form.
type seen struct {
	number, integer, fixed64 protowire.Number
	varint                   uint64
	text                     string
}

func fields(m Message) ([]seen, error) {
	var all []seen
	err := m.Text().Each(func(f Field) error {
		all = append(all, seen{f.Number, f.Integer, f.Fixed64, f.Varint, f.Text.String()})
		if s := string(f.Text.Bytes()); s != f.Text.String() {
			return errors.New("bytes and string differ: " + s)
		}
		return nil
	})
	return all, err
}

func TestEach(t *testing.T) {
	t.Parallel()
	want := []seen{
		{number: 1, text: "a\xff"}, {integer: 2, varint: math.MaxUint64}, {fixed64: 3}, {}, {}, {number: protowire.MaxValidNumber},
	}
	got, err := fields(sample())
	if d := cmp.Diff(want, got, cmp.AllowUnexported(seen{})); d != "" || err != nil {
		t.Errorf("error %v, fields (-want +got):\n%s", err, d)
	}
	if got, err := fields(nil); len(got) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
}

func TestEachRefusesWhatIsNoField(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]Message{
		"cut in a tag":          {0x80},
		"field number 0":        {0x00, 0x01},
		"no value":              {0x08},
		"cut in an integer":     {0x08, 0x80},
		"integer over 64 bits":  {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"longer than what is":   {0x0a, 0x02, 0x00},
		"length over 64 bits":   {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"length over 31 bits":   {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"cut in a fixed64":      {0x09, 1, 2, 3},
		"cut in a fixed32":      {0x0d, 1, 2, 3},
		"end of no group":       {0x0c},
		"group without an end":  {0x0b, 0x08, 0x01},
		"wire type 6":           {0x0e, 0x00},
		"after a field that is": {0x08, 0x01, 0x00},
	} {
		if got, err := fields(m); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: fields %v, error %v, want ErrMessage", name, got, err)
		}
	}
}

func TestEachEndsAtTheVisitorsError(t *testing.T) {
	t.Parallel()
	stop, visits := errors.New("stop"), 0
	err := sample().Text().Each(func(Field) error {
		visits++
		return stop
	})
	if !errors.Is(err, stop) || visits != 1 {
		t.Errorf("error %v after %d visits, want stop after 1", err, visits)
	}
}

// FuzzEach: the fields are those that protobuf's own walk finds.
func FuzzEach(f *testing.F) {
	f.Add([]byte(sample()))
	f.Add([]byte{0x0a, 0x02, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := fields(b)
		var want []seen
		rest := b
		for len(rest) > 0 {
			number, kind, n := protowire.ConsumeField(rest)
			if n < 0 {
				break
			}
			want = append(want, walked(number, kind, rest[:n]))
			rest = rest[n:]
		}
		if (err == nil) != (len(rest) == 0) {
			t.Fatalf("%x: error %v with %d bytes left", b, err, len(rest))
		}
		if !slices.Equal(want, got) {
			t.Fatalf("%x: fields %+v, want %+v", b, got, want)
		}
	})
}

// walked is one field, tag included.
func walked(number protowire.Number, kind protowire.Type, b []byte) seen {
	_, _, tag := protowire.ConsumeTag(b)
	switch kind {
	case protowire.BytesType:
		v, _ := protowire.ConsumeBytes(b[tag:])
		return seen{number: number, text: string(v)}
	case protowire.VarintType:
		v, _ := protowire.ConsumeVarint(b[tag:])
		return seen{integer: number, varint: v}
	case protowire.Fixed64Type:
		return seen{fixed64: number}
	}
	return seen{}
}

func BenchmarkEach(b *testing.B) {
	m, err := proto.Marshal(structpb.NewStringValue("some text"))
	if err != nil {
		b.Fatal(err)
	}
	text := Message(m).Text()
	b.ReportAllocs()
	for b.Loop() {
		if err := text.Each(func(Field) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
