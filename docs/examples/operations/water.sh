#!/bin/sh
# WATER with the parameter litres: opens the valve, runs the pump, closes the valve.
case $ODA_PARAM_LITRES in
  ''|*[!0-9]*)
    echo '{"resultCode": "ERROR_IN_PARAM", "resultDescription": "litres: must be a whole number"}'
    exit 0 ;;
esac
[ "$ODA_PARAM_LITRES" -le 20 ] || { echo "the tank holds 20 l" >&2; exit 3; }
echo '{"name": "OPEN_VALVE", "result": "SUCCESSFUL"}'
# ... run the pump here ...
echo '{"name": "CLOSE_VALVE", "result": "SUCCESSFUL"}'
echo "$ODA_PARAM_LITRES l given by $ODA_DEVICE_ID"
