typedef int espl__nothing;
