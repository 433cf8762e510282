package tam

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// TestStateIsWhatReflectionMakes fills every field of devices, those included that are added one day, and
// compares what stores keep with what encoding/json makes of the same device.
func TestStateIsWhatReflectionMakes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		d := &Device{}
		if i > 0 {
			fill(r, reflect.ValueOf(d).Elem(), 0)
		}
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.State()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Fatalf("device %d:\n%s\nand by reflection\n%s", i, got, want)
		}
	}
}

func TestStateRefusesWhatJSONCannotSay(t *testing.T) {
	d := &Device{Attestation: Attestation{At: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}}
	if got, err := d.State(); err == nil {
		t.Errorf("the year 10,000 became %s", got)
	}
}

// fill sets exported fields to random values: often none, and texts and times of all kinds.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	texts := []string{"", "1", "nobody", "person Ann", `a "quoted" \ text`, "<script>&", "grüße", "\x00\x1f", "\xff", "\u2028"}
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		switch r.IntN(4) {
		case 0:
			*x = time.Time{}
		case 1:
			*x = time.UnixMilli(r.Int64N(1 << 41)).In(time.FixedZone("", 3600))
		default:
			*x = time.Unix(0, r.Int64N(1<<62)).UTC()
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(r, v.Field(i), depth+1)
			}
		}
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Slice:
		n := r.IntN(4)
		if n == 0 && r.IntN(2) == 0 {
			return // nil
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			v.SetMapIndex(reflect.ValueOf(texts[r.IntN(len(texts))]), reflect.ValueOf(texts[r.IntN(len(texts))]))
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(int8(r.Uint64())))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> r.IntN(64) & (1<<(v.Type().Bits()-1)<<1 - 1))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	default:
		panic("a kind of field that the test cannot fill: " + v.Type().String())
	}
}
