package sim

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// applySettings changes fields of a configuration, each setting in the form
// Field=value, or Field.Field=value for what is nested. Unexported fields can be
// set too: that is how the parts of a detector, which have no switch in the
// API, are measured one by one.
func applySettings(config any, settings []string) error {
	for _, setting := range settings {
		path, value, found := strings.Cut(setting, "=")
		if !found {
			return fmt.Errorf("sim: setting %q is not of the form Field=value", setting)
		}
		field := reflect.ValueOf(config).Elem()
		for name := range strings.SplitSeq(path, ".") {
			if field.Kind() != reflect.Struct || !field.FieldByName(name).IsValid() {
				return fmt.Errorf("sim: setting %q: there is no field %s", setting, name)
			}
			field = field.FieldByName(name)
			field = reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
		}
		if err := setField(field, value); err != nil {
			return fmt.Errorf("sim: setting %q: %w", setting, err)
		}
	}
	return nil
}

// setField gives a field the value that a text stands for.
func setField(field reflect.Value, text string) error {
	if field.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text)
		field.SetInt(int64(d))
		return err
	}
	switch field.Kind() {
	case reflect.Bool:
		on, err := strconv.ParseBool(text)
		field.SetBool(on)
		return err
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(text, 10, 64)
		field.SetInt(i)
		return err
	case reflect.Uint, reflect.Uint8, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(text, 10, int(field.Type().Size())*8)
		field.SetUint(u)
		return err
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		field.SetFloat(f)
		return err
	case reflect.String:
		field.SetString(text)
		return nil
	}
	return fmt.Errorf("fields of type %s cannot be set", field.Type())
}
